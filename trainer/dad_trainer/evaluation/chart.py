"""A bar chart of the accuracies: benchmarks side by side, and below them each benchmark's corruptions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING

from dad_datasets.benchmarks import counted_corruptions
from dad_trainer.evaluation.result import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INCHES_A_BAR = 0.28
_MOST_BARS = 40
"""In a panel: more go to the next one, and each has room for its number."""


def draw_chart(summaries: Mapping[str, Sequence[Summary]], stream: IO[bytes]) -> None:
    """Write a PNG of `summaries`, by student; all of them have the same benchmarks, in the same order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot, which keeps global state and may want a screen

    benchmarks = next(iter(summaries.values()))
    panels: list[tuple[str, dict[str, dict[str, float]]]] = [
        ("top-1 accuracy", {name: _by_benchmark(each) for name, each in summaries.items()})
    ]
    for place, benchmark in enumerate(benchmarks):
        if benchmark.corruptions:
            title = f"{benchmark.benchmark}: top-1 accuracy on each corruption, mean over the severities"
            panels.append((title, {name: dict(each[place].corruptions) for name, each in summaries.items()}))
    panels = [(title, part) for title, bars in panels for part in _parts(bars)]
    widest = max(len(next(iter(bars.values()))) for _, bars in panels)
    width = max(8.0, 1.5 + widest * (len(summaries) + 1) * _INCHES_A_BAR)
    figure = Figure(figsize=(width, 1.2 + 3.3 * len(panels)), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for panel, (title, bars) in zip(axes, panels, strict=True):
        _draw_panel(panel, title, bars)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False)
    figure.savefig(stream, format="png")


def _parts(bars: Mapping[str, Mapping[str, float]]) -> Iterator[dict[str, dict[str, float]]]:
    """`bars` by student, cut into panels of nearly equal width."""
    names = list(next(iter(bars.values())))
    number = math.ceil(len(names) / max(1, _MOST_BARS // len(bars)))
    for part in range(number):
        chosen = names[len(names) * part // number : len(names) * (part + 1) // number]
        yield {student: {name: values[name] for name in chosen} for student, values in bars.items()}


def _by_benchmark(summaries: Sequence[Summary]) -> dict[str, float]:
    return {
        f"{each.benchmark}\n(mean of {num_counted})" if num_counted else each.benchmark: each.accuracy
        for each in summaries
        for num_counted in (len(counted_corruptions(tuple(each.corruptions))),)
    }


def _draw_panel(axes: Axes, title: str, bars: Mapping[str, Mapping[str, float]]) -> None:
    """Groups of bars, one group for each name, one bar in it for each student; shares are drawn in %."""
    names = list(next(iter(bars.values())))
    width = min(0.8 / len(bars), 0.3)
    for number, (student, values) in enumerate(bars.items()):
        places = [place + (number + 0.5 - len(bars) / 2) * width for place in range(len(names))]
        drawn = axes.bar(places, [100 * values[name] for name in names], 0.92 * width, label=student)
        axes.bar_label(drawn, fmt="%.1f", fontsize=7, padding=1)
    crowded = len(names) > 8
    axes.set_xticks(
        range(len(names)),
        [name.replace("_", " ") for name in names],
        rotation=35 if crowded else 0,
        ha="right" if crowded else "center",
        fontsize=8,
    )
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_ylabel("%")
    axes.set_ylim(0, 105)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.grid(True, color="0.9")
    axes.set_axisbelow(True)
