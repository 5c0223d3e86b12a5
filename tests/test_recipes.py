"""Every recipe in the repository is a valid one, and its header gives the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from dad_datasets.settings import load_settings
from dad_pipeline.quantizer_training.settings import QuantizerRecipe
from dad_pipeline.recipe import Recipe

RECIPES = sorted(Path(__file__).parent.parent.joinpath("recipes").glob("*/*.yaml"))


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 4


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_recipe_is_valid_and_says_how_to_run_it(path: Path) -> None:
    if path.stem == "quantizer":
        load_settings(QuantizerRecipe, path)
        assert f"dad train-quantizer recipes/{path.parent.name}/{path.name}" in path.read_text()
    else:
        load_settings(Recipe, path)
        header = path.read_text()
        assert "make demo" in header or f"dad generate recipes/{path.parent.name}/{path.name}" in header
