"""Results as Markdown: one row a student; calibration; one row a corruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dad_trainer.evaluation.result import Summary


def markdown(summaries: Mapping[str, Sequence[Summary]]) -> str:
    """The whole report of `summaries`, by student. All students have the same benchmarks, in the same order."""
    benchmarks = next(iter(summaries.values()))
    parts = ["# Evaluation", "", _images(benchmarks), "", *_accuracy(summaries), "", *_calibration(summaries)]
    for place, benchmark in enumerate(benchmarks):
        if benchmark.corruptions:
            parts += ["", *_corruptions({name: each[place] for name, each in summaries.items()})]
    return "\n".join(parts) + "\n"


def _images(benchmarks: Sequence[Summary]) -> str:
    return "Images: " + ", ".join(f"{each.benchmark} {each.num_images:,}" for each in benchmarks) + "."


def _accuracy(summaries: Mapping[str, Sequence[Summary]]) -> list[str]:
    headings, rows = ["student"], [[name] for name in summaries]
    for place, benchmark in enumerate(next(iter(summaries.values()))):
        columns = [each[place] for each in summaries.values()]
        headings.append(f"{benchmark.benchmark} (mean)" if benchmark.corruptions else benchmark.benchmark)
        for row, summary in zip(rows, columns, strict=True):
            row.append(_percent(summary.accuracy))
        if benchmark.mce is not None:
            headings.append(f"{benchmark.benchmark} mCE ↓")
            for row, summary in zip(rows, columns, strict=True):
                row.append(_percent(summary.mce))
    title = "Top-1 accuracy in %; mCE, where given, is in % of the reference model's error."
    return [title, "", *_table(headings, rows)]


def _calibration(summaries: Mapping[str, Sequence[Summary]]) -> list[str]:
    headings = ["student", *(each.benchmark for each in next(iter(summaries.values())))]
    rows = [[name, *(_percent(each.ece) for each in summary)] for name, summary in summaries.items()]
    return ["Expected calibration error in % (top label, 15 bins), lower is better.", "", *_table(headings, rows)]


def _corruptions(summaries: Mapping[str, Summary]) -> list[str]:
    first = next(iter(summaries.values()))
    rows = [
        [name.replace("_", " "), *(_percent(summary.corruptions[name]) for summary in summaries.values())]
        for name in first.corruptions
    ]
    title = f"{first.benchmark}: top-1 accuracy in % on each corruption, mean over the severities."
    return [title, "", *_table(["corruption", *summaries], rows)]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rules = ["---", *["---:"] * (len(headings) - 1)]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (headings, rules, *rows)]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
