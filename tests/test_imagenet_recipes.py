"""The recipes of the paper's ImageNet runs, run small: tiny images, tiny networks, everything else as it stands."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_run import dataset_bytes, run_recipe, tiny_recipe, write_images, write_quantizer

from dad_datasets.settings import apply_overrides, build_settings, read_recipe
from dad_trainer.evaluation import EvaluationRecipe
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.run import train_student

RECIPES = Path(__file__).parent.parent / "recipes" / "imagenet"
TRAINING = sorted(RECIPES.glob("train-*.yaml"))
SMALL_NETWORKS = {"vit_base_patch16_224": "test_vit", "resnet50": "test_resnet"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("imagenet") / "train")


@pytest.fixture(scope="module")
def shards(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """generate.yaml with a teacher and a VQGAN that need no files of weights."""
    folder = tmp_path_factory.mktemp("shards")
    small = tiny_recipe(images, write_quantizer(folder / "quantizer"))
    recipe = read_recipe(RECIPES / "generate.yaml")
    del recipe["class_names"]  # the thousand; here the folders' three
    recipe["views"]["size"] = 32
    recipe |= {name: small[name] for name in ("source", "teacher", "quantizer", "compute", "check")}
    complete, seen = run_recipe(recipe, folder / "dad")
    assert complete, seen
    assert len([name for name in dataset_bytes(folder / "dad") if name.endswith(".tar")]) == 1
    return folder / "dad"


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_the_training_recipe_runs_with_a_small_network(path: Path, shards: Path, images: Path, tmp_path: Path) -> None:
    raw: dict[str, Any] = read_recipe(path)
    small: dict[str, object] = {
        "shards": [{"path": str(shards)}],
        "student.architecture": SMALL_NETWORKS[raw["student"]["architecture"]],
        "student.checkpoint": None,
        "student.image_size": 32,
        "batch_size": 12,
        "epochs": 1,
        "schedule.warmup_epochs": 0.5,
        "validation.source.path": str(images),
        "compute.device": "cpu",
        "compute.workers": 0,
        "compute.threads": 1,
    }
    raw = apply_overrides(raw, [f"{name}={json.dumps(value)}" for name, value in small.items()])
    recipe = build_settings(TrainingRecipe, raw, origin=path.name)
    screen = io.StringIO()
    assert train_student(recipe, tmp_path, console=Console(file=screen, width=200)), screen.getvalue()
    assert "val_top1" in (tmp_path / "summary.csv").read_text()
    assert (tmp_path / "last.pt").exists()


def test_the_evaluation_recipe_names_the_paper_s_benchmarks_in_its_order() -> None:
    recipe = build_settings(EvaluationRecipe, read_recipe(RECIPES / "evaluate.yaml"), origin="evaluate.yaml")
    assert [benchmark.name for benchmark in recipe.benchmarks] == [
        "ImageNet",
        "V2",
        "A",
        "R",
        "Sketch",
        "C",
        "Stylized",
    ]
