"""The tables of benchmarks/README.md and README.md from the files of results.

python benchmarks/table.py
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from measurement import Figure, SpeedResult, read_results
from result_tables import table_lines, with_part
from robustness_table import with_stage_a

from dad_datasets.folder import LocalFolder

HERE = Path(__file__).parent


def speed_tables(results: Sequence[SpeedResult]) -> str:
    """Markdown: every figure with its target, then the tables that stand beside them."""
    columns = ("figure", "target", "measured", "quartiles", "hardware", "command")
    lines = table_lines(columns, [_row(result, figure) for result in results for figure in result.figures])
    for result in results:
        for table in result.tables:
            lines += ["", f"{table.title} ({hardware_name(result)}):", "", *table_lines(table.columns, table.rows)]
    return "\n".join(lines)


def with_tables(readme: str, results: Sequence[SpeedResult]) -> str:
    """benchmarks/README.md with its tables made anew."""
    return with_part(readme, "speed", speed_tables(results))


def hardware_name(result: SpeedResult) -> str:
    """In a few words: the GPU where it was measured, else the processor and its cores."""
    if result.device == "gpu":
        return str(result.hardware["gpu"])
    return f"{result.hardware['cpu']}, {result.hardware['cores']} cores"


def shown(value: float) -> str:
    """Three figures that count, with thousands set off."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "0"


def _row(result: SpeedResult, figure: Figure) -> tuple[str, ...]:
    unit = "x" if figure.unit == "x" else f" {figure.unit}"
    bounds = (("at least", figure.at_least), ("at most", figure.at_most))
    target = ", ".join(f"{word} {shown(bound)}{unit}" for word, bound in bounds if bound is not None)
    measured = f"{shown(figure.value)}{unit}" + (", **missed**" if figure.is_missed else "")
    quartiles = "" if figure.low is None or figure.high is None else f"{shown(figure.low)} to {shown(figure.high)}"
    name = f"{figure.name} ({figure.note})" if figure.note else figure.name
    return name, target, measured, quartiles, hardware_name(result), f"`{result.command}`"


def main() -> None:
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    written = with_tables(readme, read_results(HERE / "results/speed"))
    with LocalFolder(HERE).publish("README.md") as stream:
        stream.write(written.encode())
    front = HERE.parent / "README.md"
    stage_a = json.loads((HERE / "results/robustness/stage_a.json").read_text())
    shown_there = with_stage_a(front.read_text(encoding="utf-8"), stage_a)
    with LocalFolder(front.parent).publish(front.name) as stream:
        stream.write(shown_there.encode())


if __name__ == "__main__":
    main()
