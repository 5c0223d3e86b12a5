"""Students compared: mean and standard deviation over seeds of each figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dad_trainer.evaluation import Summary

CALIBRATION = " ECE"
"""Ends the name of a column of calibration errors."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Of one figure over seeds. `deviation` is the sample standard deviation, None for a single seed."""

    mean: float
    deviation: float | None
    seeds: int

    def percent(self) -> str:
        """In %, as tables show it."""
        if self.deviation is None:
            return f"{100 * self.mean:.1f}"
        return f"{100 * self.mean:.1f} ± {100 * self.deviation:.1f}"


def spread(values: Sequence[float]) -> Spread:
    """Mean and deviation (n - 1 in the denominator) of at least one value."""
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    deviation = math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None
    return Spread(mean=mean, deviation=deviation, seeds=len(values))


def compare(summaries: Mapping[tuple[str, int], Sequence[Summary]]) -> dict[str, dict[str, Spread]]:
    """For each student, in order, its accuracy on each benchmark; `<benchmark> ECE` the calibration error."""
    students = dict.fromkeys(name for name, _ in summaries)
    table: dict[str, dict[str, Spread]] = {}
    for student in students:
        runs = [each for (name, _), each in summaries.items() if name == student]
        columns: dict[str, Spread] = {}
        for figures in zip(*runs, strict=True):
            columns[figures[0].benchmark] = spread([summary.accuracy for summary in figures])
            columns[f"{figures[0].benchmark}{CALIBRATION}"] = spread([summary.ece for summary in figures])
        table[student] = columns
    return table


def markdown(table: Mapping[str, Mapping[str, Spread]]) -> str:
    """The table as Markdown; a student whose training failed has no figures and no row."""
    columns = list(next(iter(table.values())))
    rows = [["student", "seeds", *columns], ["---", *["---:"] * (len(columns) + 1)]]
    for student, figures in table.items():
        seeds = str(next(iter(figures.values())).seeds)
        rows.append([student, seeds, *(figures[column].percent() for column in columns)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return (
        "\n".join(["Top-1 accuracy and expected calibration error in %, mean ± standard deviation.", "", *lines]) + "\n"
    )
