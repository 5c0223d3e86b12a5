"""All records of a dataset in memory: where each one's parts stand, in columns of a few bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dad_datasets.keys import view_key
from dad_datasets.views import Box

MEMBERS = ("image", "clean", "teacher", "teacher_ids", "teacher_rest")
"""The members that training reads, by their column stems."""

LOGITS = ("teacher", "teacher_ids", "teacher_rest")
"""The columns that hold a view's logits where no tar does."""

ABSENT = -1
"""Offset of a member that a record does not have, and place in `inline` of one whose logits stand in a tar."""


@dataclass(frozen=True, kw_only=True)
class RecordCounts:
    """What became of the rows of the indexes: `kept` and the others add up to `rows`."""

    rows: int
    failed: int
    """Views that could not be made."""
    excluded: int
    """Views that `where` does not keep, or that lack the images asked for."""
    missing: int = 0
    """Views whose clean image the source does not hold."""

    @property
    def kept(self) -> int:
        return self.rows - self.failed - self.excluded - self.missing


@dataclass(frozen=True, kw_only=True)
class RecordTable:
    """The records [n] that are left, in the order of the shards.

    With logits in tars a record takes 100 bytes (132 with top-k, 16 more with stored clean canvases), beside its
    image's source key, which is kept once for all views. Logits that stand in the index, those of clean-only views,
    are in memory with 2 bytes a class.
    """

    counts: RecordCounts
    units: tuple[str, ...]
    shards: npt.NDArray[np.int32]
    """Places in `units`."""
    samples: npt.NDArray[np.int32]
    """Places in `source_keys`: equal for the views of one image."""
    source_keys: pa.LargeStringArray
    views: npt.NDArray[np.int16]
    labels: npt.NDArray[np.int32]
    attacked: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.int32]
    """[n, 4]"""
    flips: npt.NDArray[np.bool_]
    canvas_sha256: pa.FixedSizeBinaryArray
    spans: Mapping[str, npt.NDArray[np.int64]]
    """Offset and length in the shard's tar by member, [n, 2]."""
    inline_places: npt.NDArray[np.int32]
    inline: Mapping[str, npt.NDArray[Any]]
    """Logits of the clean view of the records that have them in the index, by column: [m, C or k or n_T]."""

    def __len__(self) -> int:
        return len(self.shards)

    def unit(self, record: int) -> str:
        return self.units[self.shards[record]]

    def places(self, member: str, indexes: Sequence[int]) -> list[tuple[str, int, int]]:
        """Unit, offset and length of `member`, which all of these records have in their tars."""
        if not indexes:
            return []  # also where no record has it
        shards, spans = self.shards[indexes].tolist(), self.spans[member][indexes].tolist()
        return [(self.units[shard], offset, length) for shard, (offset, length) in zip(shards, spans, strict=True)]

    def source_key(self, record: int) -> str:
        key: str = self.source_keys[int(self.samples[record])].as_py()
        return key

    def source_keys_of(self, indexes: Sequence[int]) -> list[str]:
        keys: list[str] = self.source_keys.take(pa.array(self.samples[indexes])).to_pylist()
        return keys

    def key(self, record: int) -> str:
        return view_key(self.source_key(record), int(self.views[record]))

    def box(self, record: int) -> Box:
        left, top, right, bottom = self.boxes[record].tolist()
        return left, top, right, bottom

    def has(self, member: str) -> npt.NDArray[np.bool_]:
        """Which records have `member` in their tar."""
        if member not in self.spans:
            return np.zeros(len(self), dtype=np.bool_)
        has: npt.NDArray[np.bool_] = self.spans[member][:, 0] != ABSENT
        return has

    def without_samples(self, samples: npt.NDArray[np.int32]) -> RecordTable:
        """The table without the records of these samples, which count as missing."""
        kept = ~np.isin(self.samples, samples)
        left, numbers = np.unique(self.samples[kept], return_inverse=True)
        return replace(
            self,
            counts=replace(self.counts, missing=self.counts.missing + int((~kept).sum())),
            shards=self.shards[kept],
            samples=numbers.astype(np.int32),
            source_keys=self.source_keys.take(pa.array(left)),
            views=self.views[kept],
            labels=self.labels[kept],
            attacked=self.attacked[kept],
            boxes=self.boxes[kept],
            flips=self.flips[kept],
            canvas_sha256=self.canvas_sha256.filter(pa.array(kept)),
            spans={member: span[kept] for member, span in self.spans.items()},
            inline_places=self.inline_places[kept],
        )
