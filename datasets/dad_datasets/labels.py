"""Another teacher's logits for a finished dataset: sidecar shards under labels/<name>/, laid out as a dataset is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder, open_folder
from dad_datasets.index import IDENTITY_COLUMNS, ShardSummary, span_columns
from dad_datasets.layout import INDEX, LABELS, MANIFEST
from dad_datasets.manifest import Manifest, read_manifest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

TEACHER_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("teacher_clean_top1", pa.int32()),
    ("teacher_clean_confidence", pa.float32()),
    ("teacher_adv_top1", pa.int32()),
    ("teacher_adv_confidence", pa.float32()),
)
"""What the index of labels says of its own teacher, under the names and types of the dataset's index."""


def labels_folder(dataset: Folder, name: str) -> Folder:
    """Where the labels of that name stand. UserError for what cannot be a name."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"labels {name!r}: a name is 1 to 100 letters, digits, '_', '-' and '.', and begins with a letter or digit"
        )
    return open_folder(f"{dataset.url}/{LABELS}/{name}")


def label_names(dataset: Folder) -> list[str]:
    """Of the labels that a dataset has, finished or not; the empty folder of a run that was refused is none."""
    folders = {name: f"{LABELS}/{name}" for name in dataset.subfolders(LABELS)}
    return [
        name
        for name, folder in folders.items()
        if dataset.exists(f"{folder}/{MANIFEST}") or dataset.names(f"{folder}/{INDEX}")
    ]


def labels_schema(members: Sequence[str], inline: Mapping[str, pa.DataType]) -> pa.Schema:
    """The index's columns where the tar holds `members`; `inline` columns hold the logits of clean-only views."""
    return pa.schema([*IDENTITY_COLUMNS, *span_columns(members), *TEACHER_COLUMNS, *inline.items()])


def identity_of_set(manifest: Manifest, shards: Sequence[ShardSummary]) -> dict[str, str]:
    """What labels belong to: a run, and the very bytes that it wrote."""
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(f"{shard.unit}\0{shard.tar_sha256}\0{shard.rows}\n".encode())
    return {"fingerprint": manifest.fingerprint, "shards_sha256": digest.hexdigest()}


def read_labels(dataset: Folder, manifest: Manifest, shards: Sequence[ShardSummary], name: str) -> Manifest:
    """The manifest of the labels `name` of a dataset.

    UserError where there are none, or they are unfinished, of another dataset, or count their classes otherwise.
    """
    folder = labels_folder(dataset, name)
    if not folder.exists(MANIFEST):
        there = ", ".join(label_names(dataset)) or "none"
        raise UserError(f"{dataset.url}: has no labels {name!r} (there: {there}); `dad label` makes them")
    labels = read_manifest(folder)
    if labels.kind != "labels":
        raise UserError(f"{folder.url}: holds {labels.kind} shards; expected what `dad label` makes")
    if labels.state != "finished":
        raise UserError(f"{folder.url}: is not finished; run `dad label` again to go on")
    if labels.fingerprinted.get("set") != identity_of_set(manifest, shards):
        raise UserError(f"{folder.url}: was made for other shards than those of {dataset.url}; make it again")
    if (labels.num_classes, labels.class_names) != (manifest.num_classes, manifest.class_names):
        raise UserError(f"{folder.url}: its classes are not those of {dataset.url}; make it again")
    return labels
