"""The live line of a file on its way; plain lines now and then without a terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from dad_datasets.progress_line import PLAIN_INTERVAL_S


class TransferLine:
    """A context manager round the transfer of one file."""

    def __init__(self, console: Console, name: str) -> None:
        self._console = console
        self._name = name
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(name, total=None)

    def __enter__(self) -> TransferLine:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def show(self, received: int, total: int | None) -> None:
        """So many bytes are here."""
        if self._console.is_terminal:
            self._bar.update(self._task, completed=received, total=total)
        elif time.monotonic() - self._last_line > PLAIN_INTERVAL_S:
            self._last_line = time.monotonic()
            of = "" if total is None else f" of {total:,}"
            self.note(f"{received:,}{of} bytes")

    def note(self, message: str) -> None:
        """A line that stays."""
        self._console.print(f"{self._name}: {message}", highlight=False, markup=False, soft_wrap=True)
