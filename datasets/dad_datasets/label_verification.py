"""Whether the labels of a dataset are whole, and whether they are its own."""

from __future__ import annotations

from collections.abc import Iterator

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index import ShardSummary, read_index, read_summary
from dad_datasets.labels import label_names, labels_folder, read_labels
from dad_datasets.layout import LABELS, SHARDS, shard_name
from dad_datasets.manifest import Manifest, fingerprint_of
from dad_datasets.shard_table import read_shard_table
from dad_datasets.verification import file_sha256, misplaced_member


def label_problems(dataset: Folder, manifest: Manifest) -> Iterator[str]:
    """One sentence for each thing that is wrong with any labels of a dataset; unfinished labels are a problem, too."""
    names = label_names(dataset)
    if not names:
        return
    try:
        shards = read_shard_table(dataset)
    except UserError:
        yield f"{LABELS}: there are labels, but the table of shards that they belong to cannot be read"
        return
    for name in names:
        try:
            labels = read_labels(dataset, manifest, shards, name)
        except UserError as error:
            yield str(error)
            continue
        yield from (f"{LABELS}/{name}: {problem}" for problem in _problems(dataset, shards, labels, name))


def _problems(dataset: Folder, shards: list[ShardSummary], labels: Manifest, name: str) -> Iterator[str]:
    folder = labels_folder(dataset, name)
    if fingerprint_of(labels.fingerprinted) != labels.fingerprint:
        yield "manifest.json: its fingerprint is not the hash of its fields"
    for shard in shards:
        try:
            yield from _unit_problems(dataset, folder, labels, shard.unit)
        except UserError as error:
            yield str(error)
    orphans = set(folder.names(SHARDS)) - {f"{shard.unit}.tar" for shard in shards}
    yield from (f"{SHARDS}/{orphan}: is of no unit of the dataset" for orphan in sorted(orphans))


def _unit_problems(dataset: Folder, folder: Folder, labels: Manifest, unit: str) -> Iterator[str]:
    summary = read_summary(folder, unit)
    if summary.fingerprint != labels.fingerprint:
        yield f"unit {unit}: made by another run (its fingerprint differs)"
    rows = read_index(folder, unit)
    if not rows["key"].equals(read_index(dataset, unit, ["key"])["key"]):
        yield f"unit {unit}: its rows are not the views of the dataset"
        return
    name = shard_name(unit)
    try:
        if file_sha256(folder, name) != summary.tar_sha256:
            yield f"{name}: its bytes are not those that were written (sha256 differs)"
            return
    except FileNotFoundError:
        yield f"{name}: the shard is missing"
        return
    with folder.open(name) as stream:
        for row in rows.to_pylist():
            if row["status"] == "ok" and (misplaced := misplaced_member(stream, row)):
                yield f"{name}: {row['key']}: {misplaced}"
