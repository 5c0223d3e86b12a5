"""Labels of tiny sets, and what they must equal: the set that the other teacher would have had, attacked alike."""

from __future__ import annotations

import io
from copy import deepcopy
from pathlib import Path
from typing import Any

from rich.console import Console
from tiny_run import RawRecipe

from dad_datasets.settings import build_settings
from dad_pipeline.labelling.label_run import label_dataset
from dad_pipeline.labelling.recipe import LabelRecipe


def label_recipe(raw: RawRecipe, **changes: Any) -> RawRecipe:
    """Another network than the teacher of `raw`, in the same arithmetic."""
    recipe: RawRecipe = {
        "teacher": raw["teacher"] | {"seed": 1},
        "compute": raw["compute"],
        "check": {"allow_near_chance": True},
    }
    return recipe | changes


def label(dataset: Path | str, recipe: RawRecipe, name: str = "other") -> str:
    """What the user saw."""
    screen = io.StringIO()
    settings = build_settings(LabelRecipe, recipe, origin="recipe")
    label_dataset(str(dataset), settings, name, console=Console(file=screen, width=200))
    return screen.getvalue()


def as_if_generated(raw: RawRecipe) -> RawRecipe:
    """`raw` with the other teacher for the logits and its own for the attack: the same images, other logits."""
    recipe: RawRecipe = deepcopy(raw)
    recipe["attack"]["model"] = raw["teacher"]
    recipe["teacher"] = raw["teacher"] | {"seed": 1}
    return recipe
