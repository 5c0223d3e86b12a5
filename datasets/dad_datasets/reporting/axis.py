"""Round numbers along an axis, and where a value stands on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

NumberFormat = Callable[[float], str]


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` (low < high) laid out from `start` to `end` (pixels, in either direction)."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Where `value` stands, in pixels; values beyond the ends stand at them."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` >= 2 multiples of 1, 2 or 5 times a power of ten within [low, high], low < high."""
    assert low < high, (low, high)
    assert most >= 2, most
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20, 50):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [round(number * step, 12) for number in range(first, last + 1)]
    raise AssertionError((low, high, most))


def rounded_range(low: float, high: float, most: int) -> tuple[float, float]:
    """The smallest range of whole steps round [low, high], for an axis of about `most` ticks; never empty."""
    if high - low < 1e-9 * max(1.0, abs(low), abs(high)):
        low, high = low - 0.5, high + 0.5
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(f * power for f in (1, 2, 5, 10, 20) if (high - low) / (f * power) <= most)
    return round(math.floor(low / step + 1e-9) * step, 12), round(math.ceil(high / step - 1e-9) * step, 12)


def percent(value: float) -> str:
    """A share as a tick: 0.25 is 25, 0.005 is 0.5."""
    return f"{100 * value:.6g}"


def plain(value: float) -> str:
    """A number as a tick."""
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.3g}"
