"""Everything that a run goes on with: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from dad_trainer.students import Student
from dad_trainer.training.step import StepSums

HistoryRow = dict[str, float]

CHECKPOINT_VERSION = 2  # timm's number for this layout of state dicts


@dataclass(kw_only=True)
class TrainingState:
    """Changes at every step; `step` steps are behind it."""

    student: Student
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: ModelEmaV3 | None
    sums: StepSums
    """Of the steps of the current epoch, this process's share."""
    block_shards: int | None
    """How many are shuffled together: as the run was begun, wherever its shards have been moved since."""
    step: int = 0
    history: list[HistoryRow] = field(default_factory=list)
    """A row for each finished epoch."""
    best: float | None = None
    """Highest validation accuracy so far."""

    def document(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The checkpoint: plain values and tensors in timm's layout, so that `timm.create_model` loads it.

        `facts` are of the run: what the student is, and on what it was trained.
        """
        document: dict[str, Any] = {
            "version": CHECKPOINT_VERSION,
            "arch": self.student.architecture,
            "state_dict": self.student.model.state_dict(),
            "optimizer": self.optimiser.state_dict(),
            "amp_scaler": self.scaler.state_dict(),
            "step": self.step,
            "history": self.history,
            "best": self.best,
            "sums": self.sums.values,
            "block_shards": self.block_shards,
            **facts,
        }
        if self.ema is not None:
            document["state_dict_ema"] = self.ema.module.state_dict()
        return document

    def restore(self, document: Mapping[str, Any]) -> None:
        """Go on where `document` was taken."""
        self.student.model.load_state_dict(document["state_dict"])
        self.optimiser.load_state_dict(document["optimizer"])
        self.scaler.load_state_dict(document["amp_scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(document["state_dict_ema"])
        self.step = document["step"]
        self.history = list(document["history"])
        self.best = document["best"]
        self.sums = StepSums(values=document["sums"].to(self.sums.values.device))
        self.block_shards = document.get("block_shards", self.block_shards)  # older checkpoints lack it

    def is_finite(self) -> bool:
        """Whether all weights are, the averaged ones too: the last update may have spoilt them."""
        return all(
            bool(nn.utils.get_total_norm(list(network.parameters())).isfinite()) for network in self.scored().values()
        )

    def scored(self) -> dict[str, nn.Module]:
        """The networks that validation scores, by the name of their column."""
        networks = {"val": self.student.model}
        return networks if self.ema is None else {**networks, "val_ema": self.ema.module}


def total(sums: Tensor) -> tuple[float, float]:
    """Mean loss and accuracy of [loss times samples, samples, right]."""
    loss, samples, right = sums.tolist()
    return loss / samples, right / samples
