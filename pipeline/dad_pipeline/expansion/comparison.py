"""How near the expanded images are to those that the teacher scored when the codes were made."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch

from dad_datasets.folder import Folder
from dad_datasets.index import read_index
from dad_datasets.replay_choice import choose_views
from dad_datasets.shard_reader import open_shard
from dad_pipeline.expansion.expanded_unit import Expansion
from dad_pipeline.quantizer import Quantizer

NAMED = 1000
"""Views with other pixels that are remembered by name."""


@dataclass(frozen=True, kw_only=True)
class HashComparison:
    """Of `views` expanded images, `identical` have the very pixels of the origin, by its `image_sha256`.

    A hash does not say how far the others are; `differing` names the first of them, (unit, key).
    """

    views: int
    identical: int
    differing: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class ReferenceComparison:
    """Expanded images against the decoder in float64: `largest` difference of a pixel, in 1/255."""

    views: int
    largest: int
    differing_share: float
    """Of the pixels' channels."""


def compare_hashes(origin: Folder, folder: Folder, units: Sequence[str]) -> HashComparison:
    """Read off the indexes of both sets, one unit at a time."""
    views = identical = 0
    differing: list[tuple[str, str]] = []
    for unit in units:
        there, here = (read_index(one, unit, ["key", "status", "image_sha256"]) for one in (origin, folder))
        stored = pc.equal(here["status"], "ok")
        there, here = there.filter(stored), here.filter(stored)
        equal = pc.equal(there["image_sha256"], here["image_sha256"])
        views += len(here)
        identical += pc.sum(equal).as_py() or 0
        others = here["key"].filter(pc.invert(equal)).slice(0, NAMED - len(differing))
        differing += [(unit, key) for key in others.to_pylist()]
    return HashComparison(views=views, identical=identical, differing=tuple(differing))


def compare_with_reference(
    expansion: Expansion, units: Sequence[str], hashes: HashComparison, count: int
) -> ReferenceComparison:
    """Decode `count` views again, alone, in float64 on the CPU, and compare with what is stored.

    Views that differ from the origin's go first. A decoder whose error is well below 1/255, as float32's is, rounds to
    one of the two integers round the exact value: an image within 1/255 of this one is right, and two machines that are
    right differ by at most 1/255.
    """
    chosen = list(hashes.differing[:count])
    chosen += [view for view in choose_views(expansion.folder, units, count, seed=0) if view not in chosen]
    quantizer = copy.deepcopy(expansion.quantizer).cpu().double()
    largest = differing = total = 0
    for unit, key in chosen[:count]:
        rows = read_index(expansion.folder, unit)
        row = rows.filter(pc.equal(rows["key"], key)).to_pylist()[0]
        with open_shard(expansion.folder, unit) as shard:
            stored, codes = shard.canvas(row), shard.array(row, "codes")
        distance = np.abs(stored.astype(np.int16) - _exact(quantizer, codes))
        largest = max(largest, int(distance.max()))
        differing += int((distance > 0).sum())
        total += distance.size
    return ReferenceComparison(
        views=len(chosen[:count]), largest=largest, differing_share=differing / total if total else 0.0
    )


@torch.no_grad()
def _exact(quantizer: Quantizer, codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.int16]:
    """[h, w, 3] of codes [h/f, w/f], by a quantizer in float64."""
    pixels = quantizer.decode(torch.from_numpy(codes.astype(np.int64))[None])
    rounded: npt.NDArray[np.int16] = (pixels[0] * 255).round().to(torch.int16).permute(1, 2, 0).numpy()
    return rounded
