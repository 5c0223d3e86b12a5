"""What `dad train-quantizer` shows: a live line, a line for each checkpoint, and a closing table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dad_datasets.progress_line import ProgressLine
from dad_pipeline.quantizer_training.figures import QuantizerFigures
from dad_pipeline.quantizer_training.step import StepFigures


class Screen:
    """A listener that shows the run on a console; the live line begins once the images are there."""

    def __init__(self, console: Console, stack: ExitStack, *, steps: int, batch_size: int) -> None:
        self._console, self._stack = console, stack
        self._steps, self._batch_size = steps, batch_size
        self._line: ProgressLine | None = None

    def loaded(self, num_images: int, problems: Counter[str], first_step: int) -> None:
        for reason, count in problems.items():
            self._console.print(Text(f"left out: {count:,} ({reason})"))
        resumed = f", going on after step {first_step:,}" if first_step else ""
        self._console.print(f"{num_images:,} images{resumed}", highlight=False)
        total, done = self._steps * self._batch_size, first_step * self._batch_size
        self._line = self._stack.enter_context(ProgressLine(self._console, total=total, done=done))

    def stepped(self, step: int, figures: StepFigures) -> None:
        assert self._line is not None, "the images are loaded first"
        self._line.show(
            step * self._batch_size,
            before=f"step {step:,}/{self._steps:,}",
            after=f"loss {figures.loss:.4f} · {figures.psnr_db:.2f} dB",
        )

    def checkpointed(self, step: int, figures: QuantizerFigures) -> None:
        assert self._line is not None, "the images are loaded first"
        self._line.note(
            f"step {step:,}: PSNR {figures.psnr_db:.2f} dB, {figures.codes_used:.0%} of the codes used, "
            f"perplexity {figures.perplexity:,.0f}"
        )


@contextmanager
def training_screen(console: Console, *, steps: int, batch_size: int) -> Iterator[Screen]:
    """A live line while the block runs: steps, images/s, time left, loss, PSNR of the batch."""
    with ExitStack() as stack:
        yield Screen(console, stack, steps=steps, batch_size=batch_size)


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
