"""Which records are left where clean images are missing, with a source that is asked and never read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from dad_datasets.errors import UserError
from dad_datasets.sources import CleanSample, WorkUnit
from dad_trainer.reading.clean_keys import without_missing
from dad_trainer.reading.record_table import ABSENT, RecordCounts, RecordTable


class KnowingSource:
    """Holds the numbers below `count` but every hundredth, as keys."""

    class_names: tuple[str, ...] | None = None

    def __init__(self, count: int) -> None:
        self._keys = {str(number) for number in range(count) if number % 100 != 99}
        self.asked: list[str] = []

    def has(self, source_key: str) -> bool:
        self.asked.append(source_key)
        return source_key in self._keys

    def fetch(self, source_key: str) -> bytes:
        raise NotImplementedError

    def plan(self, samples_per_shard: int) -> Iterator[WorkUnit]:
        raise NotImplementedError

    def read(self, unit: WorkUnit) -> Iterator[CleanSample]:
        raise NotImplementedError

    def preload(self) -> None:
        raise NotImplementedError

    def label_range(self) -> tuple[int, int] | None:
        raise NotImplementedError

    def longest_key(self) -> str | None:
        raise NotImplementedError

    def identity(self) -> str:
        raise NotImplementedError


def records_of(count: int) -> RecordTable:
    """Two views of each of `count` images whose keys are their numbers."""
    numbers = np.repeat(np.arange(count, dtype=np.int32), 2)
    return RecordTable(
        counts=RecordCounts(rows=2 * count, failed=0, excluded=0),
        units=("unit",),
        shards=np.zeros_like(numbers),
        samples=numbers,
        source_keys=pa.array([str(number) for number in range(count)], pa.large_string()),
        views=np.tile(np.arange(2, dtype=np.int16), count),
        labels=numbers,
        attacked=np.ones(2 * count, dtype=np.bool_),
        boxes=np.zeros((2 * count, 4), dtype=np.int32),
        flips=np.zeros(2 * count, dtype=np.bool_),
        canvas_sha256=pa.array([bytes(32)] * 2 * count, pa.binary(32)),
        spans={},
        inline_places=np.full(2 * count, ABSENT, dtype=np.int32),
        inline={},
    )


def test_every_image_is_asked_for_once() -> None:
    source, records = KnowingSource(1000), records_of(99)
    assert without_missing(source, "here", records, max_missing=0) is records
    assert source.asked == [str(number) for number in range(99)]


def test_records_of_missing_images_are_left_out_up_to_a_share() -> None:
    source = KnowingSource(1000)
    left = without_missing(source, "here", records_of(1000), max_missing=0.01)
    assert (len(left), left.counts.missing) == (1980, 20)
    assert not {left.source_key(place) for place in range(len(left))} & {str(n) for n in range(99, 1000, 100)}
    assert [left.source_key(place) for place in (0, -1)] == ["0", "998"]
    with pytest.raises(UserError, match=r"clean data here: holds no usable image 99, 199, 299 and 7 more, of 1,000"):
        without_missing(source, "here", records_of(1000), max_missing=0.009)


def test_no_image_at_all_is_refused_whatever_may_be_missing() -> None:
    with pytest.raises(UserError, match="holds no usable image 0, 1, 2 and 7 more, of 10 "):
        without_missing(KnowingSource(0), "here", records_of(10), max_missing=1.0)
