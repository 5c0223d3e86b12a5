"""The closing table of `dad label`: the new teacher beside the one that made the set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table
from rich.text import Text

from dad_datasets.folder import Folder
from dad_datasets.index import read_index
from dad_datasets.labels import TEACHER_COLUMNS
from dad_datasets.layout import index_name, shard_name
from dad_datasets.summary import Mean

IMAGES = {"clean": "clean", "adv": "adversarial"}


@dataclass(kw_only=True)
class TeacherComparison:
    """Sums over the indexes of labels and of their set; memory does not grow with the number of units."""

    views: int = 0
    failed: int = 0
    bytes: int = 0
    new: dict[str, Mean] = field(default_factory=dict)
    """The labels' teacher, by figure."""
    own: dict[str, Mean] = field(default_factory=dict)
    """The set's own, on the same views."""


def compare_teachers(dataset: Folder, labels: Folder, units: Sequence[str]) -> TeacherComparison:
    """Read both indexes of each unit. UserError where one is damaged."""
    result = TeacherComparison()
    names = [name for name, _ in TEACHER_COLUMNS]
    for unit in units:
        rows = read_index(labels, unit, ["label", "status", *names])
        usable = pc.not_equal(rows["status"], "failed")
        result.views += len(rows)
        result.failed += len(rows) - pc.sum(usable).as_py()
        result.bytes += labels.size(shard_name(unit)) + labels.size(index_name(unit))
        _add(result.new, rows.filter(usable))
        _add(result.own, read_index(dataset, unit, ["label", *names]).filter(usable))
    return result


def _add(figures: dict[str, Mean], rows: pa.Table) -> None:
    for column, images in IMAGES.items():
        cells = {
            f"accuracy, {images}": pc.equal(rows[f"teacher_{column}_top1"], rows["label"]),
            f"confidence, {images}": rows[f"teacher_{column}_confidence"],
        }
        for name, values in cells.items():
            numbers = pc.cast(values, pa.float64())
            mean = Mean(pc.sum(numbers).as_py() or 0.0, len(numbers) - numbers.null_count)
            figures[name] = figures.get(name, Mean()) + mean


def comparison_table(result: TeacherComparison, *, name: str, title: str, seconds: dict[str, float] | None) -> Table:
    """A row for each figure, the labels and the set's own side by side."""
    table = Table(title=Text(title), title_justify="left")
    table.add_column("")
    table.add_column(Text(name), justify="right")
    table.add_column("the set's own teacher", justify="right")
    for figure, mean in result.new.items():
        if mean.count:
            table.add_row(figure, f"{mean.value:.1%}", f"{result.own[figure].value:.1%}")
    table.add_row("views", f"{result.views:,}")
    table.add_row("failed views", f"{result.failed:,}")
    labelled = result.views - result.failed
    table.add_row("bytes per view (tar and index)", f"{result.bytes / labelled:,.0f}" if labelled else "none")
    for stage, spent in (seconds or {}).items():
        table.add_row(f"time, {stage}", f"{spent:,.1f} s")
    return table
