"""What a student is shown: clean images, adversarial ones, or both as a pair; from one or more sets of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dad_datasets.errors import UserError
from dad_trainer.reading import Pairs
from dad_trainer.training.order import Ints, SetOrder

Part = Literal["clean", "adversarial", "pair"]

ImagesName = Literal["clean", "adversarial", "pairs", "unpaired"]

PARTS: dict[ImagesName, tuple[Part, ...]] = {
    "clean": ("clean",),
    "adversarial": ("adversarial",),
    "pairs": ("pair",),
    # The authors' concatenation: a clean image and its adversarial one are two samples with nothing in common.
    "unpaired": ("clean", "adversarial"),
}


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The records of one set that are shown, and which of their images."""

    pairs: Pairs
    part: Part
    records: Ints
    """Numbers of the records in `pairs`: [n]."""
    order: SetOrder


def streams_of(
    sets: Sequence[Pairs], images: ImagesName, *, weights: Sequence[float], views: Sequence[int]
) -> list[Stream]:
    """The streams in a fixed order. UserError where a set has nothing of what is asked for."""
    return [
        _stream(pairs, part, weight=weight, views=taken)
        for pairs, weight, taken in zip(sets, weights, views, strict=True)
        for part in PARTS[images]
    ]


def _stream(pairs: Pairs, part: Part, *, weight: float, views: int) -> Stream:
    if part != "clean" and not pairs.attacked.any():
        raise UserError(f"{pairs.url}: none of its views is attacked, so it has no adversarial image to train on")
    kept = np.flatnonzero(pairs.attacked) if part == "adversarial" else np.arange(len(pairs))
    # Images of which nothing is left must not count: numbers without gaps.
    samples = np.unique(pairs.samples[kept], return_inverse=True)[1].astype(np.int32)
    order = SetOrder(samples=samples, shards=pairs.shards[kept], weight=weight, views=views)
    if order.visits == 0:
        raise UserError(f"{pairs.url}: weight {weight} of its {samples.max() + 1} images is less than one an epoch")
    return Stream(pairs=pairs, part=part, records=kept, order=order)
