"""What `dad evaluate` shows: a live line, and a closing table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dad_trainer.evaluation.result import Result, Summary
from dad_trainer.evaluation.row_finder import EvaluationProgress, Report


@contextmanager
def progress_line(console: Console) -> Iterator[Report]:
    """A live line while the block runs: benchmark, condition, share done, images/s through students, time left."""
    line = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
    )
    with line:
        task = line.add_task("evaluating", total=None, rate="")

        def report(progress: EvaluationProgress) -> None:
            line.update(
                task,
                description=f"{progress.benchmark}, {progress.condition}",
                completed=progress.done,
                total=progress.total,
            )
            speed = line.tasks[0].speed
            line.update(task, rate=f"{speed:,.0f} images/s" if speed else "")

        yield report


def closing_table(summaries: Mapping[str, Sequence[Summary]]) -> Table:
    """One row a student; accuracies in %, the mean over the corruptions where there are any."""
    table = Table(title="top-1 accuracy, %", title_justify="left")
    table.add_column("student")
    for benchmark in next(iter(summaries.values())):
        table.add_column(Text(benchmark.benchmark), justify="right")
        if benchmark.mce is not None:
            table.add_column(Text(f"{benchmark.benchmark} mCE"), justify="right")
    for name, each in summaries.items():
        cells = []
        for summary in each:
            cells.append(f"{100 * summary.accuracy:.1f}")
            if summary.mce is not None:
                cells.append(f"{100 * summary.mce:.1f}")
        table.add_row(Text(name), *cells)
    return table


def bad_image_lines(results: Sequence[Result]) -> list[str]:
    """A line for each benchmark some of whose images could not be used."""
    lines = {}
    for result in results:
        if result.num_bad:
            total = result.num_bad + result.num_images
            lines[result.benchmark] = (
                f"benchmark {result.benchmark}: {result.num_bad} of {total} images could not be used, "
                f"such as {result.bad_images[0]}"
            )
    return list(lines.values())
