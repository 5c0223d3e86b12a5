"""The robustness of students: a table over benchmarks, and for each corrupted one its corruptions and severities."""

from __future__ import annotations

from collections.abc import Sequence

from dad_datasets.benchmarks import counted_corruptions
from dad_datasets.reporting.axis import percent
from dad_datasets.reporting.curve_chart import Curve, curve_chart
from dad_datasets.reporting.dot_chart import DotRow, dot_chart
from dad_datasets.reporting.markup import Child, element
from dad_datasets.reporting.page import Section
from dad_datasets.reporting.spread import Spread
from dad_datasets.reporting.student_comparison import Comparison, Figure, by_seed, by_severity, compare
from dad_datasets.reporting.table import table
from dad_datasets.reporting.training_files import Evaluated

MOST_DRAWN = 8
"""Students in a chart; more of them stand in the tables alone."""


def robustness_sections(evaluated: Sequence[Evaluated], baseline: str) -> list[Section]:
    """The table over all benchmarks, and a section for each benchmark with corruptions."""
    benchmarks = dict.fromkeys(summary.benchmark for each in evaluated for summary in each.summaries)
    sections = [Section(title="Accuracy and calibration", content=_overview(evaluated, list(benchmarks), baseline))]
    for benchmark in benchmarks:
        corruptions = dict.fromkeys(
            name
            for each in evaluated
            for summary in each.summaries
            if summary.benchmark == benchmark
            for name in summary.corruptions
        )
        if corruptions:
            content = _corruptions(evaluated, benchmark, list(corruptions), baseline)
            sections.append(Section(title=f"Corruptions: {benchmark}", content=content))
    return sections


def _overview(evaluated: Sequence[Evaluated], benchmarks: Sequence[str], baseline: str) -> list[Child]:
    students = list(dict.fromkeys(each.student for each in evaluated))
    columns: list[tuple[str, Comparison]] = []
    for benchmark in benchmarks:
        summaries = [summary for each in evaluated for summary in each.summaries if summary.benchmark == benchmark]
        mean = ", mean" if any(summary.corruptions for summary in summaries) else ""
        figures: list[tuple[str, Figure]] = [
            (f"{benchmark}{mean}", lambda summary: summary.accuracy),
            (f"{benchmark}, mCE ↓", lambda summary: summary.mce),
            (f"{benchmark}, calibration error ↓", lambda summary: summary.ece),
        ]
        for name, figure in figures:
            found = by_seed(evaluated, benchmark, figure)
            if any(found.values()):
                columns.append((name, compare(found, baseline)))
    seeds = {name: len({each.seed for each in evaluated if each.student == name}) for name in students}
    headings = ["student", "seeds", *(name for name, _ in columns)]
    rows = [[name, str(seeds[name]), *(_percent(column.values[name]) for _, column in columns)] for name in students]
    caption = "Top-1 accuracy and expected calibration error in %, mean ± standard deviation over the seeds"
    content: list[Child] = [table(caption, headings, rows)]
    others = [name for name in students if name != baseline]
    if others:
        differences = [
            [name, *(_percent(column.differences[name], signed=True) for _, column in columns)] for name in others
        ]
        headings = ["student", *(name for name, _ in columns)]
        content.append(table(f"Difference from {baseline} in percentage points, seed by seed", headings, differences))
    if bad := sum(score.num_bad for each in evaluated for score in each.scores):
        content.append(
            element("p", f"{bad:,} images could not be read and were left out of the scores.", class_="note")
        )
    return content


def _corruptions(
    evaluated: Sequence[Evaluated], benchmark: str, corruptions: Sequence[str], baseline: str
) -> list[Child]:
    students = list(dict.fromkeys(each.student for each in evaluated))
    rows: dict[str, Comparison] = {}
    for corruption in corruptions:
        found = by_seed(evaluated, benchmark, _accuracy_on(corruption))
        rows[corruption.replace("_", " ")] = compare(found, baseline)
    counted = counted_corruptions(tuple(corruptions))
    means = compare(by_seed(evaluated, benchmark, lambda summary: summary.accuracy), baseline)
    return [
        element("div", *_charts(evaluated, benchmark, students, rows), class_="charts"),
        _table(students, {**rows, f"mean of {len(counted)}": means}, baseline),
    ]


def _charts(
    evaluated: Sequence[Evaluated], benchmark: str, students: Sequence[str], rows: dict[str, Comparison]
) -> list[Child]:
    drawn = students[:MOST_DRAWN]
    only = f" The first {MOST_DRAWN} of {len(students)} students." if len(students) > MOST_DRAWN else ""
    dots = [DotRow(name=name, values=[row.values[student] for student in drawn]) for name, row in rows.items()]
    charts: list[Child] = []
    if any(value is not None for row in dots for value in row.values):
        note = f"Mean over the severities; the bar is ± one standard deviation over the seeds.{only}"
        charts.append(
            dot_chart("Accuracy on each corruption", note, dots, series=drawn, label="top-1 accuracy, %", shown=percent)
        )
    severities = by_severity(evaluated, benchmark)
    curves = [Curve(series=n, points=severities[name]) for n, name in enumerate(drawn) if severities[name]]
    if any(len(curve.points) > 1 for curve in curves):
        charts.append(
            curve_chart(
                "Accuracy by severity",
                f"Mean over the corruptions and the seeds.{only}",
                curves,
                series=drawn,
                across_label="severity",
                up_label="top-1 accuracy, %",
                shown=percent,
            )
        )
    return charts


def _accuracy_on(corruption: str) -> Figure:
    return lambda summary: summary.corruptions.get(corruption)


def _table(students: Sequence[str], rows: dict[str, Comparison], baseline: str) -> Child:
    others = [name for name in students if name != baseline]
    cells = [
        [
            name,
            *(_percent(row.values[student]) for student in students),
            *(_percent(row.differences[student], signed=True) for student in others),
        ]
        for name, row in rows.items()
    ]
    caption = "Top-1 accuracy in %, mean ± standard deviation over the seeds"
    if others:
        caption += f"; differences from {baseline} in percentage points, seed by seed"
    return table(caption, ["corruption", *students, *(f"{name} − {baseline}" for name in others)], cells)


def _percent(value: Spread | None, *, signed: bool = False) -> str:
    if value is None:
        return "–"
    mean = f"{100 * value.mean:+.1f}".replace("-", "−") if signed else f"{100 * value.mean:.1f}"
    return mean if value.deviation is None else f"{mean} ± {100 * value.deviation:.1f}"
