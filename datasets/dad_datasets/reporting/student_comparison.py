"""Students compared over their seeds: each figure's mean and deviation, and what it differs from the baseline's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dad_datasets.benchmarks import counted_corruptions
from dad_datasets.reporting.spread import Spread, spread
from dad_datasets.reporting.training_files import BenchmarkSummary, Evaluated, Score

Figure = Callable[[BenchmarkSummary], float | None]
"""A number of a summary, None where it has none."""

BySeed = Mapping[str, Mapping[int, float]]
"""A figure of each student by seed, students in order."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A figure of every student, in order; None where a student has no seed with it."""

    values: Mapping[str, Spread | None]
    differences: Mapping[str, Spread | None]
    """Of every student but the baseline: its seeds minus the baseline's same seeds, one by one."""


def compare(figures: BySeed, baseline: str) -> Comparison:
    """`baseline` is one of the students."""
    reference = figures[baseline]
    values = {name: spread(list(seeds.values())) if seeds else None for name, seeds in figures.items()}
    differences: dict[str, Spread | None] = {}
    for name, seeds in figures.items():
        if name != baseline:
            paired = [value - reference[seed] for seed, value in seeds.items() if seed in reference]
            differences[name] = spread(paired) if paired else None
    return Comparison(values=values, differences=differences)


def by_seed(evaluated: Sequence[Evaluated], benchmark: str, figure: Figure) -> BySeed:
    """`figure` of every student's summary of `benchmark`."""
    table: dict[str, dict[int, float]] = {each.student: {} for each in evaluated}
    for each in evaluated:
        for summary in each.summaries:
            if summary.benchmark == benchmark and (value := figure(summary)) is not None:
                table[each.student][each.seed] = value
    return table


def by_severity(evaluated: Sequence[Evaluated], benchmark: str) -> dict[str, list[tuple[int, float]]]:
    """For each student (severity, accuracy): mean over the corruptions that count, then over the seeds."""
    table: dict[str, list[tuple[int, float]]] = {}
    for student in dict.fromkeys(each.student for each in evaluated):
        of_seeds = [_severities(each.scores, benchmark) for each in evaluated if each.student == student]
        common = sorted(set.intersection(*(set(each) for each in of_seeds)))
        table[student] = [(s, sum(each[s] for each in of_seeds) / len(of_seeds)) for s in common]
    return table


def _severities(scores: Sequence[Score], benchmark: str) -> dict[int, float]:
    own = [score for score in scores if score.benchmark == benchmark and score.corruption is not None]
    counted = counted_corruptions(tuple(dict.fromkeys(score.corruption or "" for score in own)))
    found: dict[int, list[float]] = {}
    for score in own:
        if score.corruption in counted and score.severity is not None:
            found.setdefault(score.severity, []).append(score.top1)
    return {severity: sum(values) / len(values) for severity, values in found.items()}
