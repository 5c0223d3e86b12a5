"""A student's answers under one condition, gathered batch by batch, and the figures of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dad_trainer.evaluation.metrics import calibration_error, confidence, in_top_k, negative_log_likelihood


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Means over the images: shares in [0, 1], `nll` in nats."""

    num_images: int
    top1: float
    top5: float | None
    ece: float
    nll: float


@dataclass(slots=True)
class Answers:
    """Four numbers for each image, so that any number of images fits the memory."""

    _top1: list[Tensor] = field(default_factory=list)
    _top5: list[Tensor] = field(default_factory=list)
    _confidence: list[Tensor] = field(default_factory=list)
    _nll: list[Tensor] = field(default_factory=list)

    def add(self, logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> None:
        """Answers of one batch, on any device. In float64, so that batches add up to the same figures."""
        logits = logits.double()
        self._top1.append(in_top_k(logits, labels, 1).cpu())
        if logits.shape[1] > 5:
            self._top5.append(in_top_k(logits, labels, 5).cpu())
        self._confidence.append(confidence(logits).cpu())
        self._nll.append(negative_log_likelihood(logits, labels).cpu())

    def figures(self) -> Figures:
        correct = torch.cat(self._top1)
        return Figures(
            num_images=len(correct),
            top1=correct.double().mean().item(),
            top5=torch.cat(self._top5).double().mean().item() if self._top5 else None,
            ece=calibration_error(torch.cat(self._confidence), correct),
            nll=torch.cat(self._nll).mean().item(),
        )
