"""What a person sees of a training run: a live line, a line for each epoch, a closing table."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dad_trainer.reading import Pairs
from dad_trainer.training.checkpoints import BEST, LAST
from dad_trainer.training.ingredients import Ingredients
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.state import HistoryRow, TrainingState


def overview(recipe: TrainingRecipe, ingredients: Ingredients) -> str:
    """A line before the first step."""
    streams = ingredients.streams
    samples = sum(stream.order.visits * stream.order.views for stream in streams)
    steps = ingredients.plan.steps_per_epoch(streams)
    teacher = "live teacher" if ingredients.live_teacher else "stored logits" if recipe.needs_teacher else "no teacher"
    return (
        f"{recipe.student.architecture}, loss {recipe.loss.name} on {recipe.shown}, {teacher}: {samples:,} samples "
        f"and {steps:,} steps an epoch, {ingredients.total_steps:,} steps of {recipe.batch_size} images"
    )


def records_line(pairs: Pairs) -> str:
    """What became of a set's views; what was left out is never passed over in silence."""
    counts = pairs.counts
    left_out = {
        "could not be made": counts.failed,
        "are not asked for": counts.excluded,
        "lack their clean image": counts.missing,
    }
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count)
    return f"{pairs.title}: {counts.kept:,} of {counts.rows:,} views{f' ({reasons})' if reasons else ''}"


def epoch_line(row: HistoryRow) -> str:
    """One finished epoch."""
    text = f"epoch {row['epoch']:.0f}: loss {row['train_loss']:.4f}, training accuracy {row['train_top1']:.1%}"
    if "val_top1" in row:
        text += f", validation {row['val_top1']:.1%}"
    if "val_ema_top1" in row:
        text += f" (average of weights {row['val_ema_top1']:.1%})"
    return text


def closing_table(recipe: TrainingRecipe, state: TrainingState, out: Path, *, images_per_s: float | None) -> Table:
    """The figures of a finished run. `images_per_s` is None where nothing was left to do."""
    table = Table(
        title=Text(f"student {recipe.student.architecture} in {out}"), show_header=False, title_justify="left"
    )
    last = state.history[-1]
    table.add_row("loss", f"{recipe.loss.name}, on {recipe.shown}")
    table.add_row("parameters", f"{sum(p.numel() for p in state.student.model.parameters()):,}")
    table.add_row("steps", f"{state.step:,}")
    table.add_row("images through the student", f"{state.step * recipe.batch_size:,}")
    table.add_row("training loss, last epoch", f"{last['train_loss']:.4f}")
    table.add_row("training accuracy, last epoch", f"{last['train_top1']:.1%}")
    if "val_top1" in last:
        table.add_row("validation accuracy, last epoch", f"{last['val_top1']:.1%}")
    if state.best is not None:
        table.add_row("validation accuracy, best", f"{state.best:.1%}")
    if images_per_s is not None:
        table.add_row("images/s", f"{images_per_s:,.0f}")
    table.add_row("checkpoints", Text(", ".join(str(out / name) for name in (LAST, BEST) if (out / name).exists())))
    return table


def say(console: Console, message: str) -> None:
    """A line of text, as it is."""
    console.print(message, highlight=False, markup=False, soft_wrap=True)
