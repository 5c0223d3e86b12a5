"""One training sample: read, and augmented by draws of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from dad_datasets.errors import UserError
from dad_datasets.views import Canvas
from dad_trainer.augment import Augmentation
from dad_trainer.reading import Pair, TeacherRow
from dad_trainer.training.streams import Stream

READ_TOGETHER = 64
"""Records of a batch that are read at once: more are no faster, and their canvases are in memory until augmented."""

ItemPlace = tuple[int, int, int, int]
"""(epoch, stream, record within the stream, repeat within the epoch): names a sample and all its draws."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """What goes through the student for one sample: one image, or the clean and the adversarial one of a pair.

    A view that was never attacked stands in a batch of pairs with its clean image twice and `attacked` False.
    """

    epoch: int
    key: str
    label: int
    images: UInt8[Tensor, "parts 3 h w"]
    teacher: tuple[TeacherRow, ...]
    """One row for each image; empty where the loss asks no teacher."""
    attacked: bool


class Items(Dataset["Item | UserError"]):
    """Samples by place; equal places give equal samples in any process and in any order.

    A sample that cannot be read is the UserError that says so: raised in a loader worker, it would reach the user as
    that process's traceback.
    """

    def __init__(self, streams: Sequence[Stream], augmentation: Augmentation, *, teacher: bool) -> None:
        self._streams = streams
        self._augmentation = augmentation
        self._teacher = teacher

    def __getitem__(self, place: ItemPlace) -> Item | UserError:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[ItemPlace]) -> list[Item | UserError]:
        """Those of a batch, which torch's DataLoader asks for at once; where one cannot be read, its error alone."""
        items: list[Item | UserError] = []
        try:
            for first in range(0, len(places), READ_TOGETHER):
                together = places[first : first + READ_TOGETHER]
                pairs = self._read(together)
                items += [self._item(place, pair) for place, pair in zip(together, pairs, strict=True)]
        except UserError as error:
            return [error]
        return items

    def _read(self, places: Sequence[ItemPlace]) -> list[Pair]:
        read: dict[ItemPlace, Pair] = {}
        for number, stream in enumerate(self._streams):
            of_stream = [place for place in places if place[1] == number]
            pairs = stream.pairs.read_many(
                stream.records[[position for _, _, position, _ in of_stream]].tolist(),
                clean=stream.part != "adversarial",
                adversarial=stream.part != "clean",
                teacher=self._teacher,
            )
            read |= zip(of_stream, pairs, strict=True)
        return [read[place] for place in places]

    def _item(self, place: ItemPlace, pair: Pair) -> Item:
        epoch, number, _, repeat = place
        part = self._streams[number].part
        canvases = [canvas for canvas in (pair.clean, pair.adversarial) if canvas is not None]
        rows = [row for row in (pair.teacher_clean, pair.teacher_adversarial) if row is not None]
        if part != "pair":
            rows = rows[-1:] if part == "adversarial" else rows[:1]
        elif len(canvases) == 1:
            canvases, rows = canvases * 2, rows * 2
        name = f"{number}/{pair.source_key}" + (f" again {repeat}" if repeat else "")
        augmented = self._augmentation(canvases, epoch=epoch, key=name, view=pair.view)
        return Item(
            epoch=epoch,
            key=f"{number}/{pair.key}",
            label=pair.label,
            images=to_tensor(augmented),
            teacher=tuple(rows) if self._teacher else (),
            attacked=pair.adversarial is not None,
        )


def to_tensor(canvases: Sequence[Canvas]) -> UInt8[Tensor, "n 3 h w"]:
    """Canvases of one size, stacked."""
    return torch.from_numpy(np.stack([canvas.transpose(2, 0, 1) for canvas in canvases]))
