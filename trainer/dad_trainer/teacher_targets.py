"""What the teacher says about a batch, at one temperature: soft targets, and how far a student is from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from dad_datasets.errors import UserError
from dad_trainer.reading.pair import TeacherRow


@dataclass(frozen=True, kw_only=True)
class TeacherTargets:
    """The teacher's probabilities softmax(t / T), float32 in [0,1].

    Full: `probabilities` [n, c] with rows of sum 1; `ids` and `rest` are None. Top-k: `probabilities` [n, k] of the
    classes `ids`, and `rest` the mass of all the others together: a row and its rest sum to 1.
    """

    probabilities: Float[Tensor, "n k"]
    ids: Int[Tensor, "n k"] | None = None
    rest: Float[Tensor, " n"] | None = None

    def to(self, device: torch.device, *, non_blocking: bool = False) -> TeacherTargets:
        """The same on `device`."""
        return self.each(lambda part: part.to(device, non_blocking=non_blocking))

    def each(self, change: Callable[[Tensor], Tensor]) -> TeacherTargets:
        """The same of changed tensors."""
        return TeacherTargets(
            probabilities=change(self.probabilities),
            ids=None if self.ids is None else change(self.ids),
            rest=None if self.rest is None else change(self.rest),
        )


@dataclass(frozen=True, kw_only=True)
class MixedTargets:
    """Top-k targets of mixed images: `lam` of `first`, 1 - `lam` of `second`, whose kept classes may differ."""

    first: TeacherTargets
    second: TeacherTargets
    lam: Float[Tensor, " n"]


def targets_from_rows(rows: Sequence[TeacherRow], temperature: float) -> TeacherTargets:
    """Targets on the CPU from stored logits; `log_rest` of top-k rows must be that of `temperature`.

    Softmax over the kept logits alone would be biased, so the k probabilities are scaled to the mass that was kept,
    1 - exp(log_rest). UserError where the rows are not all full, or not all top-k with one k.
    """
    kinds = sorted({f"{len(row.values)} {'logits' if row.ids is None else 'of the largest logits'}" for row in rows})
    if len(kinds) > 1:
        raise UserError(f"teacher logits: one batch has rows of {' and '.join(kinds)}; train on sets of one kind")
    values = torch.from_numpy(np.stack([row.values for row in rows]))
    if rows[0].ids is None:
        return targets_from_logits(values, temperature)
    log_rest = torch.tensor([_log_rest(row) for row in rows], dtype=torch.float32)
    ids = torch.from_numpy(np.stack([row.ids for row in rows if row.ids is not None]).astype(np.int64))
    return _top_k_targets(values, ids, log_rest, temperature)


def targets_from_samples(samples: Mapping[str, Any], temperature: float) -> tuple[TeacherTargets, TeacherTargets]:
    """Targets of the clean and of the adversarial images of a batch of `Pairs` samples, as default_collate stacks them.

    `samples` hold `teacher` [n, 2, k], and with top-k logits `teacher_ids` [n, 2, k] and `teacher_log_rest` [n, 2] of
    the temperature for which the set was opened, which `temperature` must be.
    """
    values = samples["teacher"].unbind(1)
    if "teacher_ids" not in samples:
        clean, adversarial = (targets_from_logits(rows, temperature) for rows in values)
        return clean, adversarial
    ids, log_rest = samples["teacher_ids"].unbind(1), samples["teacher_log_rest"].unbind(1)
    clean, adversarial = (_top_k_targets(*rows, temperature) for rows in zip(values, ids, log_rest, strict=True))
    return clean, adversarial


def targets_from_logits(logits: Float[Tensor, "n c"], temperature: float) -> TeacherTargets:
    """Full targets from all logits, on their device, without a way back for gradients."""
    return TeacherTargets(probabilities=F.softmax(logits.detach().float() / temperature, dim=1))


def divergence(
    targets: TeacherTargets | MixedTargets, student_logits: Float[Tensor, "n c"], temperature: float
) -> Float[Tensor, " n"]:
    """KL(teacher || softmax(student / T)) of each image, in nats, summed over the classes; no factor T^2.

    Top-k: over the partition into each kept class and all the others together, which is at most the KL over all classes
    (data processing) and equal to it where the student spreads its rest as the teacher does.
    """
    if isinstance(targets, MixedTargets):
        first = divergence(targets.first, student_logits, temperature)
        return targets.lam * first + (1 - targets.lam) * divergence(targets.second, student_logits, temperature)
    precise = torch.promote_types(student_logits.dtype, torch.float32)  # half precision would lose small masses
    log_student = F.log_softmax(student_logits.to(precise) / temperature, dim=1)
    if targets.ids is None or targets.rest is None:
        return _kl_terms(targets.probabilities, log_student).sum(dim=1)
    kept = _kl_terms(targets.probabilities, log_student.gather(1, targets.ids)).sum(dim=1)
    if targets.ids.shape[1] == log_student.shape[1]:
        return kept  # nothing is left out, and the log of nothing would have NaN gradients
    log_student_rest = log_student.scatter(1, targets.ids, -torch.inf).logsumexp(dim=1)
    return kept + _kl_terms(targets.rest, log_student_rest)


def mix(targets: TeacherTargets, partner: Int[Tensor, " n"], lam: Float[Tensor, " n"]) -> TeacherTargets | MixedTargets:
    """Targets of images mixed as lam * image + (1 - lam) * image[partner], after mixup or cutmix.

    Full targets are mixed exactly, as probabilities (never as logits). Two top-k rows keep different classes, and their
    mixture has no such form: its divergence is lam KL(first) + (1 - lam) KL(second). Where both keep the same classes
    this exceeds the KL to the mixture by a constant without the student, and so has the same gradient.
    """
    second = TeacherTargets(
        probabilities=targets.probabilities[partner],
        ids=None if targets.ids is None else targets.ids[partner],
        rest=None if targets.rest is None else targets.rest[partner],
    )
    if targets.ids is not None:
        return MixedTargets(first=targets, second=second, lam=lam)
    share = lam[:, None]
    return TeacherTargets(probabilities=share * targets.probabilities + (1 - share) * second.probabilities)


def _top_k_targets(
    values: Float[Tensor, "n k"], ids: Int[Tensor, "n k"], log_rest: Float[Tensor, " n"], temperature: float
) -> TeacherTargets:
    probabilities = F.softmax(values.float() / temperature, dim=1) * -torch.expm1(log_rest)[:, None]
    return TeacherTargets(probabilities=probabilities, ids=ids, rest=log_rest.exp())


def _kl_terms(teacher: Float[Tensor, "*shape"], log_student: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """p (log p - log q), and 0 where p is 0."""
    return torch.xlogy(teacher, teacher) - teacher * log_student


def _log_rest(row: TeacherRow) -> float:
    assert row.log_rest is not None, "top-k rows are read for one temperature, which gives their rest"
    return row.log_rest
