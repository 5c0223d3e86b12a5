"""Learning curves of one run or of many."""

from __future__ import annotations

from collections.abc import Sequence

from dad_datasets.reporting.axis import percent, plain
from dad_datasets.reporting.curve_chart import Curve, curve_chart
from dad_datasets.reporting.markup import Child, Markup, element
from dad_datasets.reporting.page import Section
from dad_datasets.reporting.training_files import TrainingRun

CURVES = (
    ("train_loss", "Training loss", "loss"),
    ("train_top1", "Training accuracy", "accuracy, %"),
    ("val_loss", "Validation loss", "loss"),
    ("val_top1", "Validation accuracy", "accuracy, %"),
    ("val_ema_top1", "Validation accuracy, averaged weights", "accuracy, %"),
    ("lr", "Learning rate", "learning rate"),
)
"""Columns of the history, and what their charts are called."""

MOST_POINTS = 400
"""Of one curve: longer ones are thinned out evenly."""


def curves_section(runs: Sequence[TrainingRun]) -> Section:
    """A chart for each column that any run has; a line for each run, a colour for each student."""
    students = list(dict.fromkeys(run.student for run in runs))
    seeds = "; each line is one seed" if len(runs) > len(students) else ""
    charts: list[Child] = []
    for column, title, label in CURVES:
        curves = [
            Curve(series=students.index(run.student), points=points) for run in runs if (points := _points(run, column))
        ]
        if curves:
            shown = percent if "%" in label else plain
            note = f"At the end of each epoch{seeds}."
            charts.append(
                curve_chart(
                    title,
                    note,
                    curves,
                    series=students,
                    across_label="step",
                    up_label=label,
                    shown=shown,
                    begin=0.0,
                )
            )
    content: Markup = element("div", *charts, class_="charts") if charts else element("p", "No epoch is finished yet.")
    return Section(title="Learning curves", content=[content])


def _points(run: TrainingRun, column: str) -> list[tuple[float, float]]:
    points = [(row["step"], row[column]) for row in run.history if column in row]
    every = -(-len(points) // MOST_POINTS)
    return points if every < 2 else [*points[:-1:every], points[-1]]
