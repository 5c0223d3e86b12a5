"""`dad fields`: what may stand in the recipe of a command."""

from __future__ import annotations

from typing import Annotated

import typer


def fields(
    command: Annotated[str, typer.Argument(help="A command that takes a recipe, such as generate or train.")],
    section: Annotated[str, typer.Argument(help="One section of it and what is below, such as attack.")] = "",
) -> None:
    """Print the fields of a recipe: what may stand there, the default, the meaning."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dad_datasets.errors import UserError
    from dad_datasets.recipe_fields import recipe_type, sections_of

    sections = sections_of(recipe_type(command))
    chosen = [one for one in sections if not section or one.is_within(section)]
    if not chosen:
        raise UserError(f"{section}: no section of the recipe of dad {command}")
    console = Console()
    for one in chosen:
        title = Text(one.title or f"dad {command}", style="bold")
        table = Table(title=title, caption=Text(one.meaning), title_justify="left", caption_justify="left")
        for column in ("field", "values", "default", "meaning"):
            table.add_column(column, overflow="fold")
        for row in one.rows:
            table.add_row(*map(Text, (row.name, row.values, row.default, row.meaning)))
        console.print(table)
