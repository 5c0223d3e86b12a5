"""What `dad prepare` shows: a progress line, and a closing table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dad_datasets.prepared_totals import PreparedTotals
from dad_datasets.preparing import PreparationProgress
from dad_datasets.progress_line import ProgressLine


@contextmanager
def progress_line(console: Console) -> Iterator[Callable[[PreparationProgress], None]]:
    """A live line from the first report on: samples, images/s, time left, failures."""
    with ExitStack() as stack:
        lines: list[ProgressLine] = []

        def report(progress: PreparationProgress) -> None:
            if not lines:
                lines.append(stack.enter_context(ProgressLine(console, total=progress.total, done=progress.done)))
            lines[0].show(progress.done, before="preparing", after=f"{progress.failed:,} failed")

        yield report


def totals_table(totals: PreparedTotals, out: str) -> Table:
    """The closing table of a finished folder."""
    table = Table(title=Text(f"clean shards in {out}"), show_header=False, title_justify="left")
    table.add_row("images", f"{totals.images:,}")
    table.add_row("classes", f"{totals.num_classes:,}")
    table.add_row("shards", f"{totals.shards:,}")
    table.add_row("bytes", f"{totals.tar_bytes:,} ({totals.tar_bytes / totals.images:,.0f} per image)")
    table.add_row("failed", f"{sum(totals.failures.values()):,}")
    for reason, count in totals.failures.items():
        table.add_row(Text(f"  {reason}"), f"{count:,}")
    return table
