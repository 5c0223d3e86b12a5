"""Training runs small enough for tests, on the records of `tiny_run`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from dad_datasets.settings import apply_overrides, build_settings
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.run import train_student
from dad_trainer.training.step import Stepper

RawRecipe = dict[str, Any]


class PowerCutError(Exception):
    """Stands for a process that is killed."""


def training_recipe(shards: Path) -> RawRecipe:
    """Six samples a step, 24 images of two views: four steps an epoch; a network without BatchNorm."""
    return {
        "shards": [{"path": str(shards)}],
        "student": {"architecture": "cifar_resnet20", "options": {"norm": "group"}},
        "loss": {"name": "dad"},
        "augment": {"crop_padding": 2, "flip": 0.5, "erasing": 0.5, "mixup": 0.8, "cutmix": 1.0},
        "batch_size": 12,
        "epochs": 2,
        "optimiser": {"name": "sgd", "lr": 0.02},
        "schedule": {"warmup_epochs": 0.5},
        "compute": {"device": "cpu", "workers": 0, "threads": 1},
    }


def train(raw: RawRecipe, out: Path, *overrides: str) -> tuple[bool, str]:
    """Whether the run was finished, and what the user saw."""
    screen = io.StringIO()
    recipe = build_settings(TrainingRecipe, apply_overrides(raw, overrides), origin="recipe")
    finished = train_student(recipe, out, console=Console(file=screen, width=200))
    return finished, screen.getvalue()


def checkpoint(out: Path, name: str = "last.pt") -> dict[str, Any]:
    """A checkpoint's content."""
    content: dict[str, Any] = torch.load(out / name, map_location="cpu", weights_only=True)
    return content


def flat_tensors(value: object, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in nested mappings and lists, by its path."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {path: tensor for key, item in items for path, tensor in flat_tensors(item, f"{name}/{key}").items()}


def assert_same_run(one: Path, other: Path) -> None:
    """To the bit: everything in the last checkpoints, and the tables of epochs."""
    first, second = flat_tensors(checkpoint(one)), flat_tensors(checkpoint(other))
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different
    assert (one / "summary.csv").read_bytes() == (other / "summary.csv").read_bytes()


def cut_power_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """The process dies when it begins the step after."""
    whole = Stepper.__call__

    def cut(self: Stepper, step: int, batches: Any) -> Any:
        if step == steps:
            raise PowerCutError
        return whole(self, step, batches)

    monkeypatch.setattr(Stepper, "__call__", cut)
