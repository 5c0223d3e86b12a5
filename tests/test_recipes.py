"""Every recipe in the repository is a valid one, and its header gives the command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from robustness import Experiment

from dad_datasets.settings import Settings, load_settings, read_recipe
from dad_pipeline.labelling.recipe import LabelRecipe
from dad_pipeline.quantizer_training.settings import QuantizerRecipe
from dad_pipeline.recipe import Recipe
from dad_trainer.evaluation import EvaluationRecipe
from dad_trainer.sweep.settings import SweepSettings
from dad_trainer.training.recipe import TrainingRecipe

RECIPES = sorted(Path(__file__).parent.parent.joinpath("recipes").glob("*/*.yaml"))

KINDS: dict[str, tuple[type[Settings], str]] = {
    "quantizer": (QuantizerRecipe, "dad train-quantizer"),
    "generate": (Recipe, "dad generate"),
    "label": (LabelRecipe, "dad label"),
    "train": (TrainingRecipe, "dad train"),
    "students": (SweepSettings, "dad sweep"),
    "evaluate": (EvaluationRecipe, "dad evaluate"),
    "validation": (EvaluationRecipe, "dad evaluate"),
    "test": (EvaluationRecipe, "dad evaluate"),
    "stage": (Experiment, "python benchmarks/robustness.py"),
}
"""By the first word of the file's name."""


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 10


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_recipe_is_valid_and_says_how_to_run_it(path: Path) -> None:
    model, command = KINDS[re.split("[-_]", path.stem)[0]]
    load_settings(model, path)
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    name = f"recipes/{path.parent.name}/{path.name}"
    called = re.search(rf"({command} (\S+ )?|--recipe ){re.escape(name)}", header)
    assert called or "make demo" in header


@pytest.mark.parametrize(
    "path",
    [path for path in RECIPES if path.stem.startswith("students")],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_every_student_of_a_sweep_is_a_valid_recipe(path: Path) -> None:
    root = path.parents[2]
    sweep = load_settings(SweepSettings, path)
    for raw in sweep.recipes(read_recipe(root / sweep.train)).values():
        TrainingRecipe.model_validate(raw)
    assert sweep.evaluate is not None
    load_settings(EvaluationRecipe, root / sweep.evaluate)
