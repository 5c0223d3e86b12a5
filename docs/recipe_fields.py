"""Writes recipe-fields.md beside it, from the types of the recipes: python docs/recipe_fields.py"""

from __future__ import annotations

from pathlib import Path

from dad_datasets.recipe_fields import FieldRow, recipe_type, sections_of

PAGE = Path(__file__).with_name("recipe-fields.md")

COMMANDS = ("generate", "label", "train-quantizer", "train", "sweep", "evaluate")

HEAD = """# Fields of the recipes

What may stand in a recipe, command by command; `dad fields COMMAND [SECTION]` prints the same. On the command line a
field is set by its full name, as in `--set attack.epsilon=0.5`. This page is written by `python docs/recipe_fields.py`.
"""


def page() -> str:
    """The whole of it, as Markdown."""
    return HEAD + "".join(map(_chapter, COMMANDS))


def _chapter(command: str) -> str:
    parts = [f"\n## dad {command}\n"]
    for section in sections_of(recipe_type(command)):
        title = f"\n### {command}: {section.title}\n" if section.title else ""
        parts.append(f"{title}\n{_cell(section.meaning)}\n\n| field | values | default | |\n|---|---|---|---|\n")
        parts += map(_row, section.rows)
    return "".join(parts)


def _row(row: FieldRow) -> str:
    default = "" if row.default == row.values else row.default
    return f"| `{row.name}` | {_cell(row.values)} | {_cell(default)} | {_cell(row.meaning)} |\n"


def _cell(text: str) -> str:
    # Outside code nothing may be taken for a tag, a link or emphasis.
    pieces = text.split("`")
    pieces[::2] = [piece.translate({ord(sign): f"\\{sign}" for sign in "<>[]_*|"}) for piece in pieces[::2]]
    return "`".join(pieces)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
