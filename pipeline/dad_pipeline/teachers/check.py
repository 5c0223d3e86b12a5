"""The teacher check before a run: does the teacher know the labels at all?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dad_datasets.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TeacherCheck:
    """Accuracy on a few samples against guessing; all in [0,1]."""

    hits: int
    total: int
    accuracy: float
    chance: float
    near_chance: bool

    def message(self) -> str:
        """One line for the terminal."""
        return (
            f"teacher accuracy on {self.total} samples: {self.accuracy:.1%} "
            f"({self.hits} right; guessing gives {self.chance:.1%})"
        )


def teacher_check(hits: int, total: int, num_classes: int) -> TeacherCheck:
    """Near chance means accuracy below p + 3 sqrt(p (1 - p) / total), p = 1 / num_classes: a guesser seldom gets there.

    The bound is capped at 1, so that a teacher without a mistake passes on any number of samples.
    """
    assert 0 <= hits <= total
    assert total > 0
    assert num_classes > 0
    chance = 1 / num_classes
    bound = min(1.0, chance + 3 * math.sqrt(chance * (1 - chance) / total))
    accuracy = hits / total
    return TeacherCheck(hits=hits, total=total, accuracy=accuracy, chance=chance, near_chance=accuracy < bound)


def require_better_than_chance(check: TeacherCheck) -> None:
    """UserError with the likely causes and the way round, where `check` is near chance."""
    if check.near_chance:
        raise UserError(
            f"{check.message()}, which is no better than chance: most likely the class names are not in the order of "
            "the labels, or the teacher's mean and std are not those it was trained with; "
            "to go on anyway: --set check.allow_near_chance=true"
        )


@torch.no_grad()
def count_hits(
    teacher: Callable[[Tensor], Tensor], batches: Iterable[tuple[Float[Tensor, "_ 3 _ _"], Int[Tensor, " _"]]]
) -> tuple[int, int]:
    """(hits, total) over batches of pixels in [0,1] with their labels: how often the largest logit is the label's.

    The batches may differ in size, hence no named axes: a name would mean one length for all of them.
    """
    hits = total = 0
    for pixels, labels in batches:
        hits += int((teacher(pixels).argmax(1) == labels).sum())
        total += len(labels)
    return hits, total
