"""The few largest and smallest values of a column, and where they stand, found in one pass."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Place:
    """A row of a unit's index, and its value."""

    value: float
    unit: str
    row: int


@dataclass
class Extremes:
    """At most `keep` places at each end; of equal values the first ones."""

    keep: int
    largest: list[Place] = field(default_factory=list)
    smallest: list[Place] = field(default_factory=list)

    def add(self, unit: str, values: npt.NDArray[np.float64]) -> None:
        """Look at a unit's rows; NaN stands for none."""
        rows = np.flatnonzero(~np.isnan(values))
        rising = rows[np.argsort(values[rows], kind="stable")[: self.keep]]
        falling = rows[np.argsort(-values[rows], kind="stable")[: self.keep]]
        smallest = [*self.smallest, *(Place(float(values[row]), unit, int(row)) for row in rising)]
        largest = [*self.largest, *(Place(float(values[row]), unit, int(row)) for row in falling)]
        self.smallest = sorted(smallest, key=lambda place: place.value)[: self.keep]
        self.largest = sorted(largest, key=lambda place: -place.value)[: self.keep]
