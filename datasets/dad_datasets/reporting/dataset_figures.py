"""What the report of an adversarial dataset is drawn from: one pass over its indexes, one in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dad_datasets.folder import Folder
from dad_datasets.index import read_summary_and_index
from dad_datasets.layout import index_name
from dad_datasets.record import PSNR_CAP_DB
from dad_datasets.reporting.class_counts import ClassCounts
from dad_datasets.reporting.extremes import Extremes
from dad_datasets.reporting.histogram import Histogram
from dad_datasets.summary import COLUMNS, DatasetSummary

PICTURES_AN_END = 4
"""Views shown at each end of a measure."""

RANGES = {
    "codes_changed_by_attack": (0.0, 1.0),
    "psnr_db": (0.0, PSNR_CAP_DB),
    "psnr_vqgan_db": (0.0, PSNR_CAP_DB),
    "teacher_clean_confidence": (0.0, 1.0),
    "teacher_adv_confidence": (0.0, 1.0),
}
"""The columns that are drawn as histograms, and between which values."""

MEASURES = ("codes_changed_by_attack", "psnr_db")
"""The columns whose extremes are shown as pictures."""


@dataclass(kw_only=True)
class DatasetFigures:
    """Counts over adversarial views; clean-only ones count in `summary` alone. Memory grows with the classes only."""

    summary: DatasetSummary = field(default_factory=DatasetSummary)
    histograms: dict[str, Histogram] = field(
        default_factory=lambda: {column: Histogram(*ends) for column, ends in RANGES.items()}
    )
    extremes: dict[str, Extremes] = field(
        default_factory=lambda: {column: Extremes(PICTURES_AN_END) for column in MEASURES}
    )
    classes: ClassCounts = field(default_factory=ClassCounts)

    def add(self, unit: str, rows: pa.Table) -> None:
        """Count a unit's index, of which `rows` are all rows with at least COLUMNS of `dad_datasets.summary`."""
        stored = pc.equal(rows["status"], "ok")
        adversarial = rows.filter(stored)
        for column, histogram in self.histograms.items():
            histogram.add(_floats(adversarial[column]))
        for column, extremes in self.extremes.items():
            # Over all rows, so that the places are those of the index.
            extremes.add(unit, _floats(pc.if_else(stored, rows[column], None)))
        self.classes.add(*(_integers(adversarial[c]) for c in ("label", "teacher_clean_top1", "teacher_adv_top1")))


def gather_figures(folder: Folder, units: Iterable[str]) -> DatasetFigures:
    """The figures over `units`. UserError where an index is missing or damaged."""
    figures = DatasetFigures()
    for unit in units:
        shard, rows = read_summary_and_index(folder, unit, COLUMNS)
        figures.summary.add(shard, folder.size(index_name(unit)), rows)
        figures.add(unit, rows)
    return figures


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Nulls become NaN."""
    values: npt.NDArray[np.float64] = pc.cast(column, pa.float64()).to_numpy()
    return values


def _integers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Nulls become -1."""
    values: npt.NDArray[np.int64] = pc.cast(pc.fill_null(column, -1), pa.int64()).to_numpy()
    return values
