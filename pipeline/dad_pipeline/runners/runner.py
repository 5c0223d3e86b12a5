"""The face of every runner: units in, events out, in whatever order they end."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

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


class RetryQueue:
    """Units still to do, taken lazily; a unit whose worker died comes back until its retries are used up."""

    def __init__(self, units: Iterator[WorkUnit], max_retries: int) -> None:
        self._units = units
        self._returned: list[WorkUnit] = []
        self._tries: dict[str, int] = {}
        self._max_retries = max_retries

    def take(self) -> WorkUnit | None:
        """The next unit, or None where none is left at this moment."""
        if self._returned:
            return self._returned.pop()
        return next(self._units, None)

    def give_back(self, unit: WorkUnit, reason: str) -> UnitFailure | None:
        """Put a unit back after its worker failed; its failure, once it was tried often enough."""
        tries = self._tries.get(unit.name, 0) + 1
        if tries > self._max_retries:
            self._tries.pop(unit.name, None)
            return UnitFailure(unit=unit.name, reason=f"{reason}; tried {tries} times")
        self._tries[unit.name] = tries
        self._returned.append(unit)
        return None
