"""What `dad train-quantizer` shows: a live line, a line for each checkpoint, and a closing table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dad_pipeline.quantizer_training.figures import QuantizerFigures
from dad_pipeline.quantizer_training.step import StepFigures


class Screen:
    """A listener that shows the run on a console."""

    def __init__(self, line: Progress, task: TaskID, batch_size: int) -> None:
        self._line = line
        self._task = task
        self._batch_size = batch_size

    def loaded(self, num_images: int, problems: Counter[str], first_step: int) -> None:
        for reason, count in problems.items():
            self._line.console.print(Text(f"left out: {count:,} ({reason})"))
        resumed = f", going on after step {first_step:,}" if first_step else ""
        self._line.console.print(f"{num_images:,} images{resumed}", highlight=False)
        # `start` anew: the time it took to load does not count as training time
        self._line.reset(self._task, completed=first_step, rate="", now="")

    def stepped(self, step: int, figures: StepFigures) -> None:
        speed = self._line.tasks[0].speed
        rate = f"{speed * self._batch_size:,.0f} images/s" if speed else ""
        now = f"loss {figures.loss:.4f}  {figures.psnr_db:.2f} dB"
        self._line.update(self._task, completed=step, rate=rate, now=now)

    def checkpointed(self, step: int, figures: QuantizerFigures) -> None:
        self._line.console.print(
            f"step {step:,}: PSNR {figures.psnr_db:.2f} dB, {figures.codes_used:.0%} of the codes used, "
            f"perplexity {figures.perplexity:,.0f}",
            highlight=False,
        )


@contextmanager
def training_screen(console: Console, *, steps: int, batch_size: int) -> Iterator[Screen]:
    """A live line while the block runs: steps, images/s, loss, PSNR of the batch, time left."""
    line = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[now]}"),
        TimeRemainingColumn(),
        console=console,
    )
    with line:
        yield Screen(line, line.add_task("training", total=steps, rate="", now=""), batch_size)


def closing_table(figures: QuantizerFigures, out: str) -> Table:
    """The figures of a finished quantizer."""
    table = Table(title=Text(f"quantizer in {out}"), show_header=False, title_justify="left")
    table.add_row("validation images", f"{figures.images:,}")
    table.add_row("PSNR after the round trip", f"{figures.psnr_db:.2f} dB")
    table.add_row("codes used", f"{figures.codes_used:.1%}")
    table.add_row("perplexity of the codes", f"{figures.perplexity:,.0f}")
    if figures.teacher_clean is not None and figures.teacher_round_trip is not None:
        table.add_row("teacher accuracy, clean", f"{figures.teacher_clean:.1%}")
        table.add_row("teacher accuracy, after the round trip", f"{figures.teacher_round_trip:.1%}")
    return table
