"""Samples collated: clean images first, then, for pairs, the adversarial ones in the same order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from dad_datasets.errors import UserError
from dad_trainer.augment import AugmentSettings, Mixing, draw_mixing
from dad_trainer.teacher_targets import TeacherTargets, targets_from_rows
from dad_trainer.training.items import Item


@dataclass(frozen=True, kw_only=True)
class Batch:
    """n samples of p images each (p = 2 for pairs): image i of part j stands at j * n + i."""

    images: UInt8[Tensor, "images 3 h w"]
    labels: Int[Tensor, "n"]
    attacked: Bool[Tensor, "n"]
    teacher: tuple[TeacherTargets, ...]
    """For each part; empty where the loss asks no teacher, or a live one is asked later."""
    mixing: Mixing | None

    @property
    def parts(self) -> int:
        return len(self.images) // len(self.labels)

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`; the copies from pinned memory are waited for by what uses them there."""
        return self._each(lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """DataLoader's hook: all of it in pinned memory, for what a loader worker sent holds a file descriptor each."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            images=change(self.images),
            labels=change(self.labels),
            attacked=change(self.attacked),
            teacher=tuple(targets.each(change) for targets in self.teacher),
            mixing=None if self.mixing is None else self.mixing.each(change),
        )


@dataclass(frozen=True, kw_only=True)
class Collate:
    """Turns samples of one epoch into a batch; a value, so that loader workers can be sent it."""

    augment: AugmentSettings
    seed: int
    temperature: float

    def __call__(self, items: Sequence[Item | UserError]) -> Batch | UserError:
        samples = [item for item in items if isinstance(item, Item)]
        if len(samples) < len(items):
            return next(item for item in items if isinstance(item, UserError))
        parts = range(len(samples[0].images))
        return Batch(
            images=torch.cat([torch.stack([sample.images[part] for sample in samples]) for part in parts]),
            labels=torch.tensor([sample.label for sample in samples], dtype=torch.int64),
            attacked=torch.tensor([sample.attacked for sample in samples]),
            teacher=tuple(
                targets_from_rows([sample.teacher[part] for sample in samples], self.temperature)
                for part in range(len(samples[0].teacher))
            ),
            mixing=draw_mixing(
                self.augment,
                seed=self.seed,
                epoch=samples[0].epoch,
                keys=[sample.key for sample in samples],
                size=samples[0].images.shape[-1],
            ),
        )
