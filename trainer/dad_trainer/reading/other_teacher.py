"""Labels of a dataset, by which another teacher's logits take the place of those that were stored with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index import ShardSummary, read_index, read_summary_and_index
from dad_datasets.labels import TEACHER_COLUMNS, labels_folder, read_labels
from dad_datasets.manifest import Manifest
from dad_datasets.shard_table import read_shard_table
from dad_trainer.reading.record_table import LOGITS
from dad_trainer.reading.stored_form import StoredForm, with_labels

_SAME = ("source_key", "view")
"""By which a row of labels and one of the dataset are known to be of one view."""

_FIGURES = tuple(name for name, _ in TEACHER_COLUMNS)
"""Read where `where` asks for them."""


@dataclass(frozen=True, kw_only=True)
class OtherTeacher:
    """The labels `name`, found to belong to the dataset; `form` is the dataset's with these logits in it."""

    name: str
    folder: Folder
    manifest: Manifest
    form: StoredForm
    units: Mapping[str, ShardSummary]
    columns: tuple[str, ...]
    """Of the labels' index, those that take the place of the dataset's."""

    def in_place(self, unit: str, rows: pa.Table) -> tuple[ShardSummary, pa.Table]:
        """The labels' summary of a unit, and the dataset's rows with this teacher's columns and this teacher's status.

        `rows` are without logits. UserError where the labels are not of this unit.
        """
        taken = [name for name in self.columns if name not in _FIGURES or name in rows.column_names]
        summary, labels = read_summary_and_index(self.folder, unit, [*_SAME, *taken])
        if summary != self.units.get(unit) or summary.fingerprint != self.manifest.fingerprint:
            raise UserError(f"{self.folder.url}: unit {unit} is not of these labels: its fingerprint or counts differ")
        if any(not labels[name].equals(rows[name]) for name in _SAME):
            raise UserError(f"{self.folder.url}: the rows of unit {unit} are not the views of the dataset")
        for name in taken:
            if name in rows.column_names:
                rows = rows.drop_columns([name])
            rows = rows.append_column(name, labels[name])
        return summary, rows


def open_teacher(dataset: Folder, manifest: Manifest, form: StoredForm, name: str) -> OtherTeacher:
    """The labels `name` of a dataset.

    UserError where there are none, or they are not finished, or not of this dataset and its classes.
    """
    labels = read_labels(dataset, manifest, read_shard_table(dataset), name)
    folder = labels_folder(dataset, name)
    units = {summary.unit: summary for summary in read_shard_table(folder)}
    stored = read_index(folder, min(units)).column_names if units else []
    places = [f"{member}_{part}" for member in LOGITS for part in ("offset", "length")]
    taken = ("status", *_FIGURES, *LOGITS, *places)
    return OtherTeacher(
        name=name,
        folder=folder,
        manifest=labels,
        form=with_labels(form, labels.recipe.get("logits"), origin=folder.url),
        units=units,
        columns=tuple(column for column in taken if column in stored),
    )
