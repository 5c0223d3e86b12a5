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


@dataclass(frozen=True)
class Note:
    """A sentence for the user while the run goes on."""

    text: str


Event = ViewsDone | Note | UnitReport | UnitFailure


class Runner(Protocol):
    """Runs workers over units. Closing the iterator lets each worker end its current units, then stops.

    An interrupt while it does so ends the workers at once.
    """

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]: ...
