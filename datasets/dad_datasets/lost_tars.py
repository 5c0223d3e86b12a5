"""Finished units whose tar is not there, removed or left behind by a copy: a run that goes on makes them again."""

from __future__ import annotations

from collections.abc import Sequence

from dad_datasets.folder import Folder
from dad_datasets.layout import SHARDS, index_name, shard_name


def units_without_tar(folder: Folder, done: Sequence[str]) -> list[str]:
    """Those of `done`, units with an index, whose tar is not there; one listing. Units of codes alone have none."""
    tars = set(folder.names(SHARDS))
    return [unit for unit in done if shard_name(unit).removeprefix(f"{SHARDS}/") not in tars]


def lost_message(folder: Folder, lost: Sequence[str]) -> str:
    """What is said of `lost`, of which there is one at least."""
    first = f"{folder.url}/{shard_name(lost[0])}"
    if len(lost) == 1:
        return f"{first} is gone: its unit is made again"
    return f"{first} and {len(lost) - 1:,} more are gone: their units are made again"


def remove_index(folder: Folder, unit: str) -> None:
    """Before the unit's tar is published anew: until it has an index again, the unit is not finished."""
    if folder.exists(index_name(unit)):
        folder.remove(index_name(unit))
