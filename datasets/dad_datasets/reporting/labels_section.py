"""Other teachers' logits beside a dataset, in its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.label_comparison import IMAGES, LabelComparison, compare_teachers
from dad_datasets.labels import label_names, labels_folder, read_labels
from dad_datasets.manifest import Manifest
from dad_datasets.recipe_words import model_in_words
from dad_datasets.reporting.markup import Child, element
from dad_datasets.reporting.page import Section
from dad_datasets.reporting.table import table
from dad_datasets.shard_table import read_shard_table
from dad_datasets.summary import Mean

STORED = "stored in the set"


@dataclass(frozen=True, kw_only=True)
class ReportedLabels:
    """Labels by their name; `problem` where they cannot be used, and then nothing else."""

    name: str
    teacher: str = ""
    stored: str = ""
    """The dataset's own teacher."""
    comparison: LabelComparison | None = None
    problem: str = ""


def gather_labels(dataset: Folder, manifest: Manifest) -> list[ReportedLabels]:
    """Every set of labels under the dataset, one index in memory at a time."""
    return [_reported(dataset, manifest, name) for name in label_names(dataset)]


def labels_section(labels: Sequence[ReportedLabels]) -> Section:
    """A row for each teacher, and below it one for the dataset's own on the same views."""
    content: list[Child] = []
    if usable := [one for one in labels if one.comparison is not None]:
        note = (
            "Logits of other teachers on the same images, which a training recipe takes by their name (teacher: NAME). "
            "The images were attacked against the dataset's own teacher alone."
        )
        rows = [row for one in usable for row in _rows(one)]
        headings = (
            "labels",
            "teacher",
            "views",
            *(f"{what}, {i}" for what in ("right", "same") for i in IMAGES.values()),
        )
        caption = "Answers in % of the views: right; same class as the dataset's own teacher"
        content += [element("p", note, class_="note"), table(caption, headings, rows, texts=2)]
    content += [
        element("p", f"The labels {one.name} cannot be used: {one.problem}.", class_="note")
        for one in labels
        if one.problem
    ]
    return Section(title="Labels", content=content)


def _reported(dataset: Folder, manifest: Manifest, name: str) -> ReportedLabels:
    try:
        shards = read_shard_table(dataset)
        labels = read_labels(dataset, manifest, shards, name)
        comparison = compare_teachers(dataset, labels_folder(dataset, name), (shard.unit for shard in shards))
    except UserError as error:
        return ReportedLabels(name=name, problem=str(error))
    teacher, stored = (model_in_words(one.recipe.get("teacher") or {}) for one in (labels, manifest))
    return ReportedLabels(name=name, teacher=teacher, stored=stored, comparison=comparison)


def _rows(labels: ReportedLabels) -> list[tuple[str, ...]]:
    found = labels.comparison
    assert found is not None
    views = f"{found.views - found.failed:,}"
    right, same = [f"accuracy, {images}" for images in IMAGES.values()], IMAGES.values()
    return [
        (
            labels.name,
            labels.teacher,
            views,
            *(_percent(found.new.get(name)) for name in right),
            *(_percent(found.agreement.get(images)) for images in same),
        ),
        (STORED, labels.stored, views, *(_percent(found.own.get(name)) for name in right), "", ""),
    ]


def _percent(mean: Mean | None) -> str:
    return f"{100 * mean.value:.1f}" if mean is not None and mean.count else ""
