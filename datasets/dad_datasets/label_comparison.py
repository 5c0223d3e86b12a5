"""The teacher of labels beside the one that made the set: their answers on the same views."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from dad_datasets.folder import Folder
from dad_datasets.index import read_index
from dad_datasets.labels import TEACHER_COLUMNS
from dad_datasets.layout import index_name, shard_name
from dad_datasets.summary import Mean

IMAGES = {"clean": "clean", "adv": "adversarial"}
"""Parts of the columns' names, in words."""


@dataclass(kw_only=True)
class LabelComparison:
    """Sums over the indexes of labels and of their set; memory does not grow with the number of units."""

    views: int = 0
    failed: int = 0
    bytes: int = 0
    new: dict[str, Mean] = field(default_factory=dict)
    """The labels' teacher, by figure: "accuracy, clean" and the like, shares of 1."""
    own: dict[str, Mean] = field(default_factory=dict)
    """The set's own, on the same views."""
    agreement: dict[str, Mean] = field(default_factory=dict)
    """Share of the views on which both name the same class, by IMAGES."""


def compare_teachers(dataset: Folder, labels: Folder, units: Iterable[str]) -> LabelComparison:
    """Read both indexes of each unit. UserError where one is missing or damaged."""
    result = LabelComparison()
    names = [name for name, _ in TEACHER_COLUMNS]
    for unit in units:
        rows = read_index(labels, unit, ["label", "status", *names])
        usable = pc.not_equal(rows["status"], "failed")
        result.views += len(rows)
        result.failed += len(rows) - (pc.sum(usable).as_py() or 0)
        result.bytes += labels.size(shard_name(unit)) + labels.size(index_name(unit))
        new, own = rows.filter(usable), read_index(dataset, unit, ["label", *names]).filter(usable)
        for column, images in IMAGES.items():
            top1, confidence = f"teacher_{column}_top1", f"teacher_{column}_confidence"
            for figures, teacher in ((result.new, new), (result.own, own)):
                _add(figures, f"accuracy, {images}", pc.equal(teacher[top1], teacher["label"]))
                _add(figures, f"confidence, {images}", teacher[confidence])
            _add(result.agreement, images, pc.equal(new[top1], own[top1]))
    return result


def _add(figures: dict[str, Mean], name: str, values: pa.ChunkedArray) -> None:
    numbers = pc.cast(values, pa.float64())
    mean = Mean(pc.sum(numbers).as_py() or 0.0, len(numbers) - numbers.null_count)
    figures[name] = figures.get(name, Mean()) + mean
