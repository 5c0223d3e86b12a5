"""Ctrl-C or SIGTERM, once: the run ends after a step, with a checkpoint. Twice: at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

INTERRUPTED = "interrupted: what is finished is kept; run the same command again to go on from there"


class TrainingInterrupted(Exception):  # noqa: N818  # it ends a run, but is no error
    """The user asked to stop; the last checkpoint holds every step so far. Its text says how to go on."""

    def __init__(self, step: int) -> None:
        super().__init__(f"interrupted after step {step}: run the same command again to go on from there")
        self.step = step


class StopRequest:
    """A context manager; `made` tells whether SIGINT or SIGTERM came. Only the main thread can listen for signals.

    `patient`: any number of them is one request, for a process that may hear of it from several sides.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.made = False
        self._patient = patient
        self._enabled = threading.current_thread() is threading.main_thread()
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        if self._enabled:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.made and not self._patient:
            raise KeyboardInterrupt
        self.made = True
