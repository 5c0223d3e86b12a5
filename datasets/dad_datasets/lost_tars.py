"""Finished units whose tar somebody removed, or left behind in a copy: a run that goes on makes them again."""

from __future__ import annotations

from collections.abc import Sequence

from dad_datasets.folder import Folder
from dad_datasets.layout import MANIFEST, SHARDS, index_name, shard_name
from dad_datasets.manifest import read_manifest, write_manifest


def units_without_tar(folder: Folder, done: Sequence[str]) -> list[str]:
    """Those of the finished units `done` whose tar is not there; one listing."""
    tars = set(folder.names(SHARDS))
    return [unit for unit in done if shard_name(unit).removeprefix(f"{SHARDS}/") not in tars]


def drop_units_without_tar(folder: Folder, done: Sequence[str]) -> list[str]:
    """Those of `done`, which are no longer finished then: nor is the set, and their indexes are removed.

    Only the folder's single writer may call it.
    """
    lost = units_without_tar(folder, done)
    if not lost:
        return []
    manifest = read_manifest(folder) if folder.exists(MANIFEST) else None
    if manifest is not None and manifest.state == "finished":
        write_manifest(folder, manifest.model_copy(update={"state": "running"}))
    for unit in lost:
        folder.remove(index_name(unit))
    return lost


def lost_message(folder: Folder, lost: Sequence[str]) -> str:
    """What is said of `lost`, of which there is one at least."""
    more = f" and {len(lost) - 1:,} more are" if len(lost) > 1 else " is"
    return f"{folder.url}/{shard_name(lost[0])}{more} gone, and written again"
