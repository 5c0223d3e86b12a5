"""Counts of values in fine bins, added up shard by shard, and drawn in as many bars as are readable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

NUM_BINS = 1000

_MERGED = (1, 2, 5, 10, 20, 25, 50, 100)


class Histogram:
    """Counts over [low, high] in NUM_BINS bins of equal width; values beyond are counted in the outermost ones."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.counts = np.zeros(NUM_BINS, dtype=np.int64)

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Count `values`; NaN stands for none."""
        shares = (values[~np.isnan(values)] - self.low) / (self.high - self.low)
        # The nudge keeps a value that is a bin's edge, written in float32, in the bin that begins there.
        places = np.floor(shares * NUM_BINS + 1e-4).clip(0, NUM_BINS - 1).astype(np.int64)
        self.counts += np.bincount(places, minlength=NUM_BINS)

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())


def bars(histograms: Sequence[Histogram], most: int) -> tuple[npt.NDArray[np.float64], list[npt.NDArray[np.int64]]]:
    """Edges [n + 1] and counts [n] of each of `histograms` in n <= `most` bars round all their values.

    All have the same range, and one of them at least a value; `most` >= 10.
    """
    occupied = np.flatnonzero(np.sum([each.counts for each in histograms], axis=0))
    first, last = int(occupied[0]), int(occupied[-1])
    for width in _MERGED:
        begin, end = first // width, last // width + 1
        if end - begin <= most:
            break
    low, high = histograms[0].low, histograms[0].high
    edges = low + (high - low) * np.arange(begin, end + 1) * width / NUM_BINS
    return edges, [each.counts.reshape(-1, width).sum(axis=1)[begin:end] for each in histograms]
