"""How many keys a source is asked for before training, with a source that counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from dad_datasets.errors import UserError
from dad_datasets.sources import CleanSample, WorkUnit
from dad_trainer.reading.clean_keys import ASKED, missing_samples, without_missing
from dad_trainer.reading.record_table import ABSENT, RecordCounts, RecordTable


class CountingSource:
    """Holds the numbers below `count` but every hundredth, as keys."""

    class_names: tuple[str, ...] | None = None

    def __init__(self, count: int) -> None:
        self._keys = {str(number) for number in range(count) if number % 100 != 99}
        self.fetched: list[str] = []

    def fetch(self, source_key: str) -> bytes:
        self.fetched.append(source_key)
        if source_key not in self._keys:
            raise KeyError(source_key)
        return b"image"

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


class KnowingSource(CountingSource):
    def has(self, source_key: str) -> bool:
        return source_key in self._keys


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


def test_a_source_that_knows_its_keys_is_asked_for_all_and_reads_none() -> None:
    source = KnowingSource(1000)
    assert missing_samples(source, records_of(1000), all_of_them=False).tolist() == list(range(99, 1000, 100))
    assert not source.fetched


def test_another_source_is_asked_for_a_spread_of_keys() -> None:
    source = CountingSource(1000)
    missing_samples(source, records_of(1000), all_of_them=False)
    assert len(set(source.fetched)) == len(source.fetched) == ASKED
    assert (source.fetched[0], source.fetched[-1]) == ("0", "999")


def test_where_some_may_be_missing_every_key_is_asked_for() -> None:
    source = CountingSource(1000)
    left = without_missing(source, "here", records_of(1000), max_missing=0.01)
    assert (len(left), left.counts.missing) == (1980, 20)
    assert len(source.fetched) == 1000
    assert [left.source_key(place) for place in (0, -1)] == ["0", "998"]
    with pytest.raises(UserError, match=r"clean data here: holds no usable image 99, 199, 299 and 7 more, of 1,000"):
        without_missing(source, "here", records_of(1000), max_missing=0.009)


def test_no_image_at_all_is_refused_whatever_may_be_missing() -> None:
    with pytest.raises(UserError, match="holds no usable image 0, 1, 2 and 7 more, of 10 "):
        without_missing(KnowingSource(0), "here", records_of(10), max_missing=1.0)
