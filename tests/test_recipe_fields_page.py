"""docs/recipe-fields.md is what the recipes' types say, and has every field that a recipe of the repository uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guide import ROOT
from scripts import load_script

from dad_datasets.settings import read_recipe

COMMANDS = {
    "quantizer": "train-quantizer",
    "generate": "generate",
    "label": "label",
    "train": "train",
    "evaluate": "evaluate",
    "validation": "evaluate",
    "test": "evaluate",
}
"""By the first word of a recipe's file name."""

RECIPES = [path for path in sorted((ROOT / "recipes").glob("*/*.yaml")) if re.split("[-_]", path.stem)[0] in COMMANDS]


def test_the_page_is_up_to_date() -> None:
    script = load_script(ROOT / "docs" / "recipe_fields.py")
    told = (ROOT / "docs" / "recipe-fields.md").read_text(encoding="utf-8")
    assert told == script.page(), "write it anew: python docs/recipe_fields.py"


def fields_of_page() -> dict[tuple[str, str], str]:
    """What may stand in each (command, field), with lists as `[]`, from the page's text."""
    command, place, found = "", "", {}
    for line in (ROOT / "docs" / "recipe-fields.md").read_text(encoding="utf-8").replace("\\", "").splitlines():
        if line.startswith("## dad "):
            command, place = line.removeprefix("## dad "), ""
        elif line.startswith("### "):
            place = line.split(": ")[1].split(",")[0] + "."
        elif row := re.match(r"\| `(\w+)` \| ([^|]*) \|", line):
            found[command, place + row[1]] = row[2]
    return found


def fields_used(value: Any, place: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from fields_used(item, f"{place}.{name}".removeprefix("."))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for item in value:
            yield from fields_used(item, f"{place}[]")
    else:
        yield place


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_field_of_a_recipe_is_on_the_page(path: Path) -> None:
    command, told = COMMANDS[re.split("[-_]", path.stem)[0]], fields_of_page()
    assert not [field for field in fields_used(read_recipe(path)) if not _is_told(command, field, told)]


def _is_told(command: str, field: str, told: dict[tuple[str, str], str]) -> bool:
    """Where it is, or where the page says that its section is told, or as a name in a mapping."""
    holder, _, name = field.rpartition(".")
    values = told.get((command, holder.removesuffix("[]")), "")
    elsewhere = values.partition(", as ")[2]
    found = (command, field) in told or values.startswith("mapping")
    return found or (bool(elsewhere) and _is_told(command, f"{elsewhere}.{name}", told))
