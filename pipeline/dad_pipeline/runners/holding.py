"""What one worker holds, and whether it is still heard of: the same for processes and actors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from dad_datasets.sources import WorkUnit
from dad_pipeline.runners.retry_queue import Assignment, RetryQueue
from dad_pipeline.worker import UNITS_IN_FLIGHT

LOADING_LIMIT_S = 1800.0
"""At least so long may a worker load its models, from wherever they are."""


@dataclass(kw_only=True)
class Holding:
    """The units of a worker. It gets none before its models are loaded: one that dies while loading costs no try.

    `begun`: it runs, and loads them; before that it may be waiting for a place on a cluster, for any time.
    """

    begun: bool = False
    ready: bool = False
    units: dict[str, WorkUnit] = field(default_factory=dict)
    _alone: bool = False
    _heard_s: float = field(default_factory=time.monotonic)

    def heard(self) -> None:
        """It made progress."""
        self._heard_s = time.monotonic()

    def fill(self, todo: RetryQueue) -> Iterator[Assignment]:
        """The units that the worker is to be sent now."""
        while self.ready and len(self.units) < (1 if self._alone else UNITS_IN_FLIGHT):
            assignment = todo.take(idle=not self.units)
            if assignment is None:
                return
            if not self.units:
                self.heard()  # it had nothing to be late with
            self._alone = assignment.careful
            self.units[assignment.unit.name] = assignment.unit
            yield assignment

    def end(self, unit: str) -> WorkUnit:
        """The unit is off its hands."""
        self.heard()
        self._alone = False
        return self.units.pop(unit)

    def hangs(self, limit_s: float | None) -> bool:
        """Whether it has work and made no progress for `limit_s`, or began and never got ready."""
        if limit_s is None or not self.begun or (self.ready and not self.units):
            return False
        patience_s = limit_s if self.ready else max(limit_s, LOADING_LIMIT_S)
        return time.monotonic() - self._heard_s > patience_s
