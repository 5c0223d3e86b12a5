"""The live line of a run: units, images/s, time left, failures."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console

from dad_datasets.progress_line import ProgressLine


class RunProgress:
    """A context manager round the run; counts are of views."""

    def __init__(self, console: Console, *, units: int, views: int) -> None:
        self._line = ProgressLine(console, total=views)
        self._units = units
        self._done_units = self._done_views = self._failed = 0

    def __enter__(self) -> RunProgress:
        self._line.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.__exit__(kind, error, trace)

    def views_done(self, count: int) -> None:
        """So many more views went through the models."""
        self._done_views += count
        self._show()

    def note(self, text: str) -> None:
        """A sentence that stays."""
        self._line.note(text)

    def unit_done(self, failed: int) -> None:
        """A unit ended, `failed` of its views unusable."""
        self._done_units += 1
        self._failed += failed
        self._show()

    def _show(self) -> None:
        self._line.show(
            self._done_views,
            before=f"units {self._done_units}/{self._units}",
            after=f"{self._failed:,} failed",
        )
