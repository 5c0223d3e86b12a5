"""Which unit is tried next, how often, and in what company: pure bookkeeping, the same for every runner."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from dad_datasets.errors import UserError
from dad_datasets.sources import WorkUnit
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.worker import UnitFailure

MAX_DEATHS_IN_A_ROW = 10
"""How often the workers of a run may all have died with no unit finished in between, whatever the retries of each."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A unit for a worker. `careful`: a worker died over it, so it gets one to itself, which reads it with care."""

    unit: WorkUnit
    careful: bool = False


class RetryQueue:
    """Units still to do, taken lazily; one that failed comes back until its retries are used up.

    Of several units that a worker held when it died nobody knows which was to blame, or whether one sample is. None is
    charged with a try; each is tried again with care on a worker of its own, where its death counts.
    """

    def __init__(self, units: Iterator[WorkUnit], max_retries: int) -> None:
        self._units = units
        self._next = next(units, None)
        self._returned: deque[WorkUnit] = deque()
        self._suspects: deque[WorkUnit] = deque()
        self._careful: set[str] = set()
        self._tries: dict[str, int] = {}
        self._max_retries = max_retries
        self._deaths = 0

    def __bool__(self) -> bool:
        """Whether a unit waits."""
        return bool(self._suspects or self._returned or self._next)

    def take(self, *, idle: bool) -> Assignment | None:
        """The next unit for a worker that is `idle` or holds another unit; None where there is none for it now."""
        if self._suspects and idle:
            suspect = self._suspects.popleft()
            self._careful.add(suspect.name)
            return Assignment(unit=suspect, careful=True)
        if self._returned:
            return Assignment(unit=self._returned.popleft())
        unit = self._next
        if unit is None:
            return None
        self._next = next(self._units, None)
        return Assignment(unit=unit)

    def settle(self, unit: WorkUnit, outcome: UnitReport | UnitFailure) -> Iterator[UnitReport | UnitFailure]:
        """What the driver is told of a unit's end: nothing where it will be tried again."""
        if isinstance(outcome, UnitReport):
            self._deaths = 0
            self._forget(unit)
            yield outcome
        elif self._charge(unit):
            self._returned.append(unit)
        else:
            yield self._given_up(unit, outcome.reason)

    def lose(self, units: Collection[WorkUnit], reason: str, *, workers: int) -> Iterator[UnitFailure]:
        """Put back the units of one of `workers`, which died or had to be killed.

        UserError where they die again and again without a finished unit: each would load the models only to die. Many
        may well die at once, with their node.
        """
        self._deaths += 1
        if self._deaths > MAX_DEATHS_IN_A_ROW * workers:
            raise UserError(f"{self._deaths} workers in a row ended before finishing a unit: {reason}")
        for unit in units:
            if unit.name not in self._careful or self._charge(unit):
                self._suspects.append(unit)
            else:
                yield self._given_up(unit, reason)

    def _charge(self, unit: WorkUnit) -> bool:
        """Count one try; whether another is left."""
        self._tries[unit.name] = self._tries.get(unit.name, 0) + 1
        return self._tries[unit.name] <= self._max_retries

    def _given_up(self, unit: WorkUnit, reason: str) -> UnitFailure:
        tries = self._tries[unit.name]
        self._forget(unit)
        return UnitFailure(unit=unit.name, reason=f"{reason}; tried {tries} {'time' if tries == 1 else 'times'}")

    def _forget(self, unit: WorkUnit) -> None:
        self._tries.pop(unit.name, None)
        self._careful.discard(unit.name)
