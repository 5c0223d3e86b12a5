"""The closing table of `dad label`: the new teacher beside the one that made the set."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from dad_datasets.label_comparison import LabelComparison


def comparison_table(result: LabelComparison, *, name: str, title: str, seconds: dict[str, float] | None) -> Table:
    """A row for each figure, the labels and the set's own side by side."""
    table = Table(title=Text(title), title_justify="left")
    table.add_column("")
    table.add_column(Text(name), justify="right")
    table.add_column("the set's own teacher", justify="right")
    for figure, mean in result.new.items():
        if mean.count:
            table.add_row(figure, f"{mean.value:.1%}", f"{result.own[figure].value:.1%}")
    for images, mean in result.agreement.items():
        if mean.count:
            table.add_row(f"same class as the set's own, {images}", f"{mean.value:.1%}")
    table.add_row("views", f"{result.views:,}")
    table.add_row("failed views", f"{result.failed:,}")
    labelled = result.views - result.failed
    table.add_row("bytes per view (tar and index)", f"{result.bytes / labelled:,.0f}" if labelled else "none")
    for stage, spent in (seconds or {}).items():
        table.add_row(f"time, {stage}", f"{spent:,.1f} s")
    return table
