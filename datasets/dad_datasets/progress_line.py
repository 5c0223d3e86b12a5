"""The live line of a long command: what is done, images/s, time left; plain lines now and then without a terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

PLAIN_INTERVAL_S = 15.0


class ProgressLine:
    """A context manager round the work; counts are of images. `before` and `after` are free text at the line's ends."""

    def __init__(self, console: Console, *, total: int, done: int = 0) -> None:
        """`done` of the `total` were finished before, by a run that this one goes on with."""
        self._console = console
        self._total, self._done_before, self._done = total, done, done
        self._started = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.fields[before]}"), BarColumn(), TextColumn("{task.description}"), console=console
        )
        self._task = self._bar.add_task("", total=total, completed=done, before="")

    def __enter__(self) -> ProgressLine:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def images_per_s(self) -> float:
        """Since this line began."""
        return (self._done - self._done_before) / max(1e-9, time.monotonic() - self._started)

    def show(self, done: int, *, before: str = "", after: str = "") -> None:
        """So many are done now."""
        self._done = done
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, description=self._text(after), before=before)
        elif time.monotonic() - self._last_line > PLAIN_INTERVAL_S:
            self._last_line = time.monotonic()
            self._console.print(f"{before} · {self._text(after)}", highlight=False, soft_wrap=True)

    def note(self, message: str) -> None:
        """A line that stays, above the live one."""
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)

    def _text(self, after: str) -> str:
        rate = self.images_per_s
        eta = f"{(self._total - self._done) / rate:,.0f} s" if rate else "unknown"
        tail = f" · {after}" if after else ""
        return f"{self._done:,}/{self._total:,} images · {rate:,.1f} images/s · ETA {eta}{tail}"
