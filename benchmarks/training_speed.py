"""A training step on stored shards, against the same step on tensors in memory, and against one with a live teacher.

    python benchmarks/training_speed.py --out benchmarks/results/speed

The set is generated first, of scikit-image's photographs, with networks of random weights, which cost the same as
trained ones. Against tensors in memory the student is a CIFAR ResNet-20 on pairs of 64 px. The live teacher is that of
the paper, a ViT-L/14, and the student its ResNet-50, both at 112 px in place of 224, which leaves the ratio of their
work as it is. Reading, decoding and joining happen in the trainer's own process, as with `workers: 0`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from generation_speed import cpu_recipe
from measurement import Figure, SpeedResult, alternated, publish, ratios
from rich.console import Console

from dad_datasets.errors import UserError
from dad_datasets.settings import build_settings
from dad_pipeline.generation_run import generate_dataset
from dad_pipeline.recipe import Recipe
from dad_pipeline.runners.inline_runner import InlineRunner
from dad_trainer.augment import Augmentation
from dad_trainer.training.batch import Batch, Collate
from dad_trainer.training.ingredients import Ingredients, gather
from dad_trainer.training.items import Items
from dad_trainer.training.loading import EpochBatches, epoch_loader
from dad_trainer.training.processes import joined_processes
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.step import Arithmetic, BatchLoss, Stepper


def generate_set(work: Path, raw: dict[str, Any]) -> None:
    """WORK/set, by the recipe `raw` with attack and check put aside."""
    unattacked = {"attack": {"preset": "vqgan"}, "check": {"samples": 0, "allow_near_chance": True}}
    recipe = build_settings(Recipe, raw | unattacked, origin="benchmark")
    console = Console(quiet=True)
    assert generate_dataset(
        recipe, str(work / "set"), make_runner=InlineRunner, runner_name="inline", console=console
    ), "a benchmark's run has no failures"


def training_recipe(
    work: Path, *, student: str, batch_size: int, teacher: dict[str, Any] | None = None
) -> TrainingRecipe:
    """The student's recipe: pairs, stored logits or a live teacher, the mirror alone as augmentation."""
    raw: dict[str, Any] = {
        "shards": [{"path": str(work / "set")}],
        "student": {"architecture": student},
        "augment": {"flip": 0.5},
        "batch_size": batch_size,
        "epochs": 1,
        "compute": {"device": "cpu", "workers": 0, "threads": torch.get_num_threads()},
        "teacher": teacher,
    }
    return build_settings(TrainingRecipe, raw, origin="benchmark")


class Epoch:
    """One pass over the set, as often as it is asked for."""

    def __init__(self, recipe: TrainingRecipe) -> None:
        with joined_processes("cpu") as processes:
            self._ingredients: Ingredients = gather(recipe, processes)
        self._recipe = recipe
        student = self._ingredients.student
        self._stepper = Stepper(
            student=student.model,
            optimiser=self._ingredients.optimiser,
            scaler=torch.amp.GradScaler("cpu", enabled=False),
            loss=BatchLoss(
                settings=recipe.loss,
                num_classes=student.num_classes,
                mean=student.mean,
                std=student.std,
                arithmetic=Arithmetic(device=torch.device("cpu"), precision="float32", channels_last=False),
                live_teacher=self._ingredients.live_teacher,
            ),
            clip_norm=None,
            seed=0,
            rank=0,
        )
        student.model.train()

    def batches(self) -> Iterator[Batch]:
        """Read, decoded, augmented and collated as `dad train` does it."""
        recipe, student = self._recipe, self._ingredients.student
        augmentation = Augmentation(recipe.augment, recipe.seed, mean=student.mean, std=student.std)
        items = Items(self._ingredients.streams, augmentation, teacher=recipe.uses_stored_logits)
        collate = Collate(augment=recipe.augment, seed=recipe.seed, temperature=recipe.loss.temperature)
        places = EpochBatches(self._ingredients.plan, self._ingredients.streams, seed=0, epoch=0, first=0)
        for batch in epoch_loader(items, places, collate, workers=0, device=torch.device("cpu")):
            assert not isinstance(batch, UserError), batch
            yield batch

    def train(self, batches: Iterator[Batch] | list[Batch]) -> None:
        for step, batch in enumerate(batches):
            self._stepper(step, [batch])


def stored_figure(work: Path, *, rounds: int, small: bool) -> Figure:
    """A step on stored shards over the same on tensors in memory."""
    num_images, batch_size = (8, 8) if small else (256, 64)
    generate_set(work, cpu_recipe(work, num_images, "float32", small=small))
    epoch = Epoch(training_recipe(work, student="cifar_resnet20", batch_size=batch_size))
    in_memory = list(epoch.batches())
    runs: dict[str, Callable[[], object]] = {
        "stored": lambda: epoch.train(epoch.batches()),
        "memory": lambda: epoch.train(in_memory),
    }
    seconds = alternated(runs, rounds=rounds)
    rate = 2 * num_images * rounds / sum(seconds["stored"])
    return Figure.of(
        "training: a step on stored shards, over the same on tensors in memory",
        ratios(seconds["stored"], seconds["memory"]),
        unit="x",
        at_most=1.05,
        note=f"CIFAR ResNet-20, pairs of 64 px, {rate:,.0f} images/s, no loader workers",
    )


def live_teacher_figure(work: Path, *, rounds: int, small: bool) -> Figure:
    """A step with the teacher in it over one with its stored logits."""
    num_images, student = (8, "cifar_resnet20") if small else (32, "resnet50")
    raw = cpu_recipe(work, num_images, "float32", small=small)
    if not small:
        raw["views"]["size"] = 112
        raw["teacher"] |= {"architecture": "vit_large_patch14_clip_224", "image_size": 112}
    generate_set(work, raw)
    stored = Epoch(training_recipe(work, student=student, batch_size=2 * num_images))
    live = Epoch(training_recipe(work, student=student, batch_size=2 * num_images, teacher=raw["teacher"]))
    runs: dict[str, Callable[[], object]] = {
        "stored": lambda: stored.train(stored.batches()),
        "live": lambda: live.train(live.batches()),
    }
    seconds = alternated(runs, rounds=rounds)
    return Figure.of(
        "training: a step with a live teacher, over one with stored logits",
        ratios(seconds["live"], seconds["stored"]),
        unit="x",
        at_least=5,
        note="ResNet-50 taught by ViT-L/14, both at 112 px",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=11, help="with a live teacher a third of them")
    parser.add_argument("--small", action="store_true", help="toy size, to see that it works")
    arguments = parser.parse_args()
    rounds = 1 if arguments.small else arguments.rounds
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        figures = [
            stored_figure(Path(first), rounds=rounds, small=arguments.small),
            live_teacher_figure(Path(second), rounds=-(-rounds // 3), small=arguments.small),
        ]
    libraries = ("discrete-adversarial-distillation", "torch", "timm")
    result = SpeedResult.here(
        "training_speed", "Training", figures, libraries=libraries, seeds=(0,), small=arguments.small
    )
    publish(arguments.out, result)


if __name__ == "__main__":
    main()
