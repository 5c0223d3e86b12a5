"""The face of every runner: units in, events out, in whatever order they end."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from dad_datasets.errors import UserError
from dad_datasets.sources import WorkUnit
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.worker import UnitFailure, WorkerSettings


@dataclass(frozen=True)
class ViewsDone:
    """So many more views went through the models."""

    count: int


Event = ViewsDone | UnitReport | UnitFailure


class Runner(Protocol):
    """Runs workers over units. Closing the iterator lets each worker end its current units, then stops."""

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]: ...


MAX_DEATHS_IN_A_ROW = 10
"""Workers that may die with no unit finished in between, whatever the retries of each unit."""


class RetryQueue:
    """Units still to do, taken lazily; a unit whose worker died comes back until its retries are used up."""

    def __init__(self, units: Iterator[WorkUnit], max_retries: int) -> None:
        self._units = units
        self._returned: list[WorkUnit] = []
        self._tries: dict[str, int] = {}
        self._max_retries = max_retries
        self._deaths = 0

    def take(self) -> WorkUnit | None:
        """The next unit, or None where none is left at this moment."""
        if self._returned:
            return self._returned.pop()
        return next(self._units, None)

    def settle(self, unit: WorkUnit, outcome: UnitReport | UnitFailure) -> Iterator[UnitReport | UnitFailure]:
        """What the driver is told of a unit's end: nothing where it will be tried again."""
        if isinstance(outcome, UnitReport):
            self._deaths = 0
            yield outcome
        elif (failure := self.give_back(unit, outcome.reason)) is not None:
            yield failure

    def lose(self, units: Iterable[WorkUnit], reason: str) -> Iterator[UnitFailure]:
        """Put back the units of a worker that died.

        UserError where workers die again and again without a finished unit: each would load the models only to die.
        """
        self._deaths += 1
        if self._deaths > MAX_DEATHS_IN_A_ROW:
            raise UserError(f"{self._deaths} workers in a row ended before finishing a unit: {reason}")
        for unit in units:
            if (failure := self.give_back(unit, reason)) is not None:
                yield failure

    def give_back(self, unit: WorkUnit, reason: str) -> UnitFailure | None:
        """Put a unit back after its worker failed; its failure, once it was tried often enough."""
        tries = self._tries.get(unit.name, 0) + 1
        if tries > self._max_retries:
            self._tries.pop(unit.name, None)
            return UnitFailure(unit=unit.name, reason=f"{reason}; tried {tries} times")
        self._tries[unit.name] = tries
        self._returned.append(unit)
        return None
