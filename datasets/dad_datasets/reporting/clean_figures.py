"""What the report of a prepared clean set is drawn from: one pass over its indexes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dad_datasets.folder import Folder
from dad_datasets.index import read_summary_and_index
from dad_datasets.reporting.class_counts import ClassCounts

COLUMNS = ("label", "status", "reason", "image_length")


@dataclass(kw_only=True)
class CleanFigures:
    """Counts over all rows, failed ones too."""

    units: int = 0
    images: int = 0
    failed: int = 0
    tar_bytes: int = 0
    image_bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    classes: ClassCounts = field(default_factory=ClassCounts)

    def add(self, rows: pa.Table) -> None:
        """Count a unit's index, of which `rows` hold at least COLUMNS."""
        usable = rows.filter(pc.equal(rows["status"], "ok"))
        self.image_bytes += pc.sum(usable["image_length"]).as_py() or 0
        self.classes.add(pc.cast(usable["label"], pa.int64()).to_numpy().astype(np.int64))
        for pair in rows["reason"].value_counts().to_pylist():
            if pair["values"]:
                self.reasons[pair["values"]] += pair["counts"]


def gather_clean_figures(folder: Folder, units: Iterable[str]) -> CleanFigures:
    """The figures over `units`. UserError where an index is missing or damaged."""
    figures = CleanFigures()
    for unit in units:
        shard, rows = read_summary_and_index(folder, unit, COLUMNS)
        figures.units += 1
        figures.images += shard.ok
        figures.failed += shard.failed
        figures.tar_bytes += shard.tar_bytes
        figures.add(rows)
    return figures
