"""What is known of a student on one benchmark under one condition, and the summary over conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dad_datasets.benchmarks import counted_corruptions
from dad_trainer.evaluation.metrics import mean_corruption_error


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row. Shares are in [0, 1], `nll` in nats; `top5` is None where there are five classes or fewer.

    `num_images` were scored; beside them `num_bad` could not be read, the first of which `bad_images` names.
    """

    benchmark: str
    corruption: str | None = None
    severity: int | None = None
    num_images: int
    top1: float
    top5: float | None
    ece: float
    nll: float
    num_bad: int = 0
    bad_images: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A student on one benchmark: means over the severities of each corruption, then over the corruptions that count.

    The common corruptions count, or all where none of them was evaluated. `corruptions` has the accuracy of each,
    empty for a benchmark without. `mce` is relative to a reference model, None where none was given.
    """

    benchmark: str
    num_images: int
    accuracy: float
    top5: float | None
    ece: float
    nll: float
    mce: float | None = None
    corruptions: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean_error(self) -> float:
        """1 - accuracy: for corruptions the mean error that CIFAR-10-C is usually reported with."""
        return 1 - self.accuracy


def summarise(
    results: Sequence[Result], *, references: Mapping[str, Mapping[str, float]] | None = None
) -> list[Summary]:
    """One summary for each benchmark, in the order of the results; `references` has the errors by benchmark."""
    benchmarks = dict.fromkeys(result.benchmark for result in results)
    return [
        _summary([result for result in results if result.benchmark == name], (references or {}).get(name))
        for name in benchmarks
    ]


def _summary(results: Sequence[Result], references: Mapping[str, float] | None) -> Summary:
    by_corruption: dict[str, list[Result]] = {}
    for result in results:
        by_corruption.setdefault(result.corruption or "", []).append(result)
    counted = [by_corruption[name] for name in counted_corruptions(tuple(by_corruption))]

    def mean(values: Sequence[Sequence[float]]) -> float:
        return sum(sum(each) / len(each) for each in values) / len(values)

    top5 = [[r.top5 for r in rows if r.top5 is not None] for rows in counted]
    errors = {name: [1 - row.top1 for row in rows] for name, rows in by_corruption.items()}
    return Summary(
        benchmark=results[0].benchmark,
        num_images=max(result.num_images for result in results),
        accuracy=mean([[row.top1 for row in rows] for rows in counted]),
        top5=mean(top5) if all(top5) else None,
        ece=mean([[row.ece for row in rows] for rows in counted]),
        nll=mean([[row.nll for row in rows] for rows in counted]),
        mce=None if references is None else mean_corruption_error(errors, references),
        corruptions={name: 1 - sum(each) / len(each) for name, each in errors.items() if name},
    )
