"""`dad fetch`: published weights by name, into a folder from which a recipe takes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

PIPED_WIDTH = 1000  # columns, where rich would take 80 and fold the table


def fetch(
    name: Annotated[str | None, typer.Argument(help="What to fetch; with --list, a name or a part of one.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show what there is, how large, and under which licence.")] = (
        False
    ),
    out: Annotated[str, typer.Option(help="Folder of the weights; run again to resume.")] = "weights",
    from_: Annotated[
        list[str] | None,
        typer.Option("--from", help="A mirror's URL or a local file, or the folder of all files (repeatable)."),
    ] = None,
) -> None:
    """Fetch published weights by name, resumable and verified, and print the recipe's lines that use them."""
    from rich.console import Console

    from dad_datasets.errors import UserError
    from dad_datasets.folder import local_path
    from dad_pipeline.fetching.catalogue import find_weights
    from dad_pipeline.fetching.given_files import addresses_for
    from dad_pipeline.fetching.listing import show_list
    from dad_pipeline.fetching.placement import place
    from dad_pipeline.fetching.published import Role
    from dad_pipeline.fetching.recipe_lines import recipe_lines
    from dad_pipeline.fetching.transfer_line import TransferLine

    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    folder = local_path(out, option="--out")
    if list_:
        show_list(console, name or "", folder)
        return
    if name is None:
        raise UserError("dad fetch: a name is needed; dad fetch --list shows all")
    weights = find_weights(name)
    paths: dict[Role, Path] = {}
    for file, addresses in addresses_for(weights, from_ or ()):
        with TransferLine(console, file.path(folder).name) as line:
            placed = place(file, folder, addresses=addresses, report=line)
        console.print(str(placed), markup=False, soft_wrap=True)
        paths[file.role] = placed.path
    console.print(f"licence: {weights.licence}\nin the recipe:\n", markup=False, soft_wrap=True)
    console.print(recipe_lines(weights, paths), markup=False, soft_wrap=True, end="")
