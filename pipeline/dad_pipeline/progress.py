"""The live line of a run: units, images/s, time left, failures; plain lines now and then where there is no terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_INTERVAL_S = 15.0


class RunProgress:
    """A context manager round the run; counts are of views."""

    def __init__(self, console: Console, *, units: int, views: int) -> None:
        self._console = console
        self._units, self._views = units, views
        self._done_units = self._done_views = self._failed = 0
        self._started = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.fields[units]}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} images · {task.fields[rate]} · ETA"),
            TimeRemainingColumn(),
            TextColumn("· {task.fields[failed]} failed"),
            console=console,
        )
        self._task = self._bar.add_task("", total=views, **self._fields())  # type: ignore[arg-type]  # rich's columns, not its arguments

    def __enter__(self) -> RunProgress:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if kind is KeyboardInterrupt:
            self._console.print(
                "interrupted: ending the units in hand, so that nothing is lost; Ctrl-C again to stop at once"
            )

    def views_done(self, count: int) -> None:
        """So many more views went through the models."""
        self._done_views += count
        self._show()

    def unit_done(self, failed: int) -> None:
        """A unit ended, `failed` of its views unusable."""
        self._done_units += 1
        self._failed += failed
        self._show()

    def _fields(self) -> dict[str, str]:
        rate = self._done_views / max(1e-9, time.monotonic() - self._started)
        return {
            "units": f"units {self._done_units}/{self._units}",
            "rate": f"{rate:,.1f} images/s",
            "failed": f"{self._failed:,}",
        }

    def _show(self) -> None:
        fields = self._fields()
        if self._console.is_terminal:
            self._bar.update(self._task, completed=self._done_views, **fields)  # type: ignore[arg-type]  # rich's columns, not its arguments
        elif time.monotonic() - self._last_line > PLAIN_INTERVAL_S:
            self._last_line = time.monotonic()
            left = self._views - self._done_views
            rate = self._done_views / (self._last_line - self._started)
            eta = f"{left / rate:,.0f} s" if rate else "unknown"
            self._console.print(
                f"{fields['units']} · {self._done_views:,}/{self._views:,} images · {fields['rate']} · ETA {eta} · "
                f"{fields['failed']} failed",
                highlight=False,
            )
