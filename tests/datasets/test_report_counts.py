"""What a report adds up shard by shard, against the same over all values at once."""

from __future__ import annotations

import statistics
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dad_datasets.reporting.axis import Axis, percent, plain, round_ticks, rounded_range
from dad_datasets.reporting.class_counts import MOST_CLASSES, ClassCounts
from dad_datasets.reporting.extremes import Extremes
from dad_datasets.reporting.histogram import Histogram, bars
from dad_datasets.reporting.quantities import duration, size
from dad_datasets.reporting.spread import spread

SHARDS = st.lists(st.lists(st.one_of(st.floats(-0.5, 1.5), st.just(float("nan"))), max_size=12), max_size=5)


@given(SHARDS, st.integers(10, 60))
def test_bars_hold_every_value_once(shards: list[list[float]], most: int) -> None:
    histogram = Histogram(0.0, 1.0)
    for shard in shards:
        histogram.add(np.array(shard, dtype=np.float64))
    values = np.array([v for shard in shards for v in shard if not np.isnan(v)]).clip(0, 1)
    assert histogram.total == len(values)
    if not len(values):
        return
    edges, (counts,) = bars([histogram], most)
    assert counts.sum() == len(values)
    assert len(counts) <= most
    assert len(edges) == len(counts) + 1
    assert counts[0]
    assert counts[-1]
    assert edges[0] <= values.min() + 1e-6
    assert values.max() <= edges[-1] + 1e-6
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):  # edges themselves may go to either side
        assert ((values > low + 1e-6) & (values < high - 1e-6)).sum() <= count
        assert count <= ((values >= low - 1e-6) & (values <= high + 1e-6)).sum()


def test_a_share_written_in_float32_is_in_the_bar_that_begins_there() -> None:
    histogram = Histogram(0.0, 1.0)
    histogram.add(np.array([k / 100 for k in range(100)], dtype=np.float32).astype(np.float64))
    assert np.flatnonzero(histogram.counts).tolist() == list(range(0, 1000, 10))


@given(SHARDS, st.integers(1, 4))
def test_extremes_are_the_ends_of_the_sorted_values(shards: list[list[float]], keep: int) -> None:
    extremes = Extremes(keep)
    for number, shard in enumerate(shards):
        extremes.add(f"unit{number}", np.array(shard, dtype=np.float64))
    places = [(v, f"unit{n}", row) for n, shard in enumerate(shards) for row, v in enumerate(shard) if not np.isnan(v)]
    rising = sorted(places, key=lambda place: place[0])
    falling = sorted(places, key=lambda place: -place[0])
    assert [(p.value, p.unit, p.row) for p in extremes.smallest] == rising[:keep]
    assert [(p.value, p.unit, p.row) for p in extremes.largest] == falling[:keep]


VIEW = st.tuples(st.integers(-1, 6), st.integers(-1, 6), st.integers(-1, 6))


@given(st.lists(st.lists(VIEW, max_size=10), max_size=4))
def test_classes_are_counted(shards: list[list[tuple[int, int, int]]]) -> None:
    counts = ClassCounts()
    for shard in shards:
        labels, clean, adversarial = (np.array([view[i] for view in shard], dtype=np.int64) for i in range(3))
        counts.add(labels, clean, adversarial)
    views = [view for shard in shards for view in shard if view[0] >= 0]
    assert counts.table() == [
        (
            label,
            sum(view[0] == label for view in views),
            sum(view[0] == label == view[1] for view in views),
            sum(view[0] == label == view[2] for view in views),
        )
        for label in sorted({view[0] for view in views})
    ]


def test_a_wild_label_takes_no_memory() -> None:
    counts = ClassCounts()
    counts.add(np.array([1, MOST_CLASSES, 2**40], dtype=np.int64))
    assert counts.table() == [(1, 1, 0, 0)]
    assert len(counts.views) == 2


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 9))
def test_ticks_are_round_few_and_inside(low: float, width: float, most: int) -> None:
    ticks = round_ticks(low, low + width, most)
    assert len(ticks) <= most
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in ticks)
    steps = {round((b - a) / width, 6) for a, b in pairwise(ticks)}
    assert len(steps) <= 1


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.integers(2, 9))
def test_a_rounded_range_holds_the_values(low: float, width: float, most: int) -> None:
    left, right = rounded_range(low, low + width, most)
    slack = 1e-6 * max(1.0, abs(low), width)
    assert left <= low + slack
    assert low + width - slack <= right
    assert left < right


def test_places_on_an_axis() -> None:
    axis = Axis(0.0, 2.0, 100.0, 20.0)
    assert [axis.place(v) for v in (0.0, 1.0, 2.0, 9.0, -9.0)] == [100.0, 60.0, 20.0, 20.0, 100.0]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=9))
def test_spread(values: list[float]) -> None:
    found = spread(values)
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.count == len(values)
    if len(values) == 1:
        assert found.deviation is None
    else:
        assert found.deviation == pytest.approx(statistics.stdev(values))


def test_numbers_as_people_say_them() -> None:
    sizes = {0: "0 bytes", 999: "999 bytes", 999_700: "1 MB", 1.5e9: "1.5 GB", 2e12: "2 TB", 2.34e15: "2,340 TB"}
    assert {number: size(number) for number in sizes} == sizes
    times = {0.04: "0.0 s", 59.9: "59.9 s", 61: "1 min 1 s", 3600: "1 h 0 min", 90061: "25 h 1 min"}
    assert {number: duration(number) for number in times} == times
    assert [percent(v) for v in (0.0, 0.25, 0.005, 1.0)] == ["0", "25", "0.5", "100"]
    assert [plain(v) for v in (0.0, 1000.0, 0.0005, 2.5e7)] == ["0", "1,000", "0.0005", "2.5e+07"]
