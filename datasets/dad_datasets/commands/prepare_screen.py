"""What `dad prepare` shows: a progress line, and a closing table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dad_datasets.prepared_totals import PreparedTotals
from dad_datasets.preparing import PreparationProgress


@contextmanager
def progress_line(console: Console) -> Iterator[Callable[[PreparationProgress], None]]:
    """A live line while the block runs: samples, images/s, time left, failures."""
    line = Progress(
        TextColumn("preparing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]} failed"),
        console=console,
    )
    with line:
        task = line.add_task("preparing", total=None, failed=0, rate="")

        def report(progress: PreparationProgress) -> None:
            line.update(task, completed=progress.done, total=progress.total, failed=progress.failed)
            speed = line.tasks[0].speed
            line.update(task, rate=f"{speed:,.0f} images/s" if speed else "")

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
