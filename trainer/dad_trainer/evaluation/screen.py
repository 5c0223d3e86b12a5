"""What `dad evaluate` shows: a live line, and a closing table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dad_datasets.progress_line import ProgressLine
from dad_trainer.evaluation.result import Result, Summary
from dad_trainer.evaluation.row_finder import EvaluationProgress, Report


@contextmanager
def progress_line(console: Console) -> Iterator[Report]:
    """A live line while the block runs: benchmark, condition, images through students, images/s, time left."""
    with ExitStack() as stack:
        lines: list[ProgressLine] = []

        def report(progress: EvaluationProgress) -> None:
            if not lines:  # the total is known with the first report
                lines.append(stack.enter_context(ProgressLine(console, total=progress.total)))
            lines[0].show(progress.done, before=f"{progress.benchmark}, {progress.condition}")

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
