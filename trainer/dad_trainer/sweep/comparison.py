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


T_95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
)  # fmt: skip
"""97.5 % quantiles of Student's t with 1 ... 20 degrees of freedom."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Of one figure between two students, over seeds that both have.

    `half_width` is of the 95 % interval of the mean (Student's t on the paired differences), None for a single seed.
    """

    mean: float
    half_width: float | None
    seeds: int

    def points(self) -> str:
        """In percentage points, as tables show it."""
        if self.half_width is None:
            return f"{100 * self.mean:+.1f}"
        return f"{100 * self.mean:+.1f} ± {100 * self.half_width:.1f}"


def difference(values: Sequence[float]) -> Difference:
    """Mean and interval of at least one paired difference."""
    found = spread(values)
    if found.deviation is None:
        return Difference(mean=found.mean, half_width=None, seeds=1)
    quantile = T_95[min(found.seeds - 1, len(T_95)) - 1]  # beyond the table its last value: a little too wide
    return Difference(
        mean=found.mean, half_width=quantile * found.deviation / math.sqrt(found.seeds), seeds=found.seeds
    )


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


def differences(
    summaries: Mapping[tuple[str, int], Sequence[Summary]], reference: str
) -> dict[str, dict[str, Difference]]:
    """For each other student and benchmark, its accuracy less the reference's, over the seeds that both have.

    A student that shares no seed with the reference has no row.
    """
    table: dict[str, dict[str, Difference]] = {}
    for student in dict.fromkeys(name for name, _ in summaries if name != reference):
        seeds = [seed for name, seed in summaries if name == student and (reference, seed) in summaries]
        pairs = [(summaries[student, seed], summaries[reference, seed]) for seed in seeds]
        if pairs:
            table[student] = {
                ours[0].benchmark: difference([a.accuracy - b.accuracy for a, b in zip(ours, theirs, strict=True)])
                for ours, theirs in (
                    ([own[place] for own, _ in pairs], [other[place] for _, other in pairs])
                    for place in range(len(pairs[0][0]))
                )
            }
    return table


def markdown(
    table: Mapping[str, Mapping[str, Spread]],
    compared: Mapping[str, Mapping[str, Difference]] | None = None,
    reference: str | None = None,
) -> str:
    """The table as Markdown, then that of the differences; a student whose training failed has no row."""
    columns = list(next(iter(table.values())))
    rows = [["student", "seeds", *columns], ["---", *["---:"] * (len(columns) + 1)]]
    for student, figures in table.items():
        seeds = str(next(iter(figures.values())).seeds)
        rows.append([student, seeds, *(figures[column].percent() for column in columns)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    text = ["Top-1 accuracy and expected calibration error in %, mean ± standard deviation.", "", *lines]
    if compared:
        text += ["", f"Less {reference}, in points, seed by seed: mean ± half the 95 % interval (Student's t).", ""]
        names = list(next(iter(compared.values())))
        text += ["| student | seeds | " + " | ".join(names) + " |", "| --- | " + "---: | " * (len(names) + 1)]
        for student, row in compared.items():
            cells = [str(next(iter(row.values())).seeds), *(row[name].points() for name in names)]
            text.append(f"| {student} | " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"
