"""A folder that `dad prepare` made, as a clean source: what it was made from, image bytes, labels and keys alike."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow.compute as pc

from dad_datasets.cache_folder import DEFAULT_CACHE_BYTES
from dad_datasets.errors import UserError
from dad_datasets.folder import Folder, open_folder
from dad_datasets.index import read_index
from dad_datasets.key_table import KeyTable, Places, digests_of
from dad_datasets.layout import shard_name
from dad_datasets.manifest import Manifest, read_manifest
from dad_datasets.shard_files import ShardFiles
from dad_datasets.shard_table import shards_in_table
from dad_datasets.sources.clean_source import (
    CleanSample,
    WorkUnit,
    cut_units,
    identity_of,
    image_problem,
    longest_encoded,
)

_COLUMNS = ("source_key", "label", "status", "reason", "image_offset", "image_length")
_INDEXES_AT_ONCE = 8  # on an object store each costs a round trip or two


class PreparedShards:
    """Units of shard `u` are named `u-00000`, ...; samples that could not be prepared come back with their reason."""

    def __init__(self, path: str, *, cache: Path | None = None, cache_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        """`cache` holds copies of remote shards for `fetch`; None: the user's cache folder.

        Reads the manifest and the table of shards. UserError where the folder is not a finished clean dataset.
        """
        self._folder = open_folder(path)
        manifest = read_manifest(self._folder)
        if manifest.kind != "clean":
            raise UserError(f"source {path}: holds {manifest.kind} shards; expected clean ones, made by dad prepare")
        if manifest.state != "finished":
            raise UserError(f"source {path}: dad prepare did not finish there; run it again to go on")
        self.class_names = manifest.class_names
        # Not the summaries: those of a million shards take 850 MB.
        self._num_rows: dict[str, int] = {}
        self._identity = identity_of(self._survey(manifest))
        self._units = list(self._num_rows)
        self._files = ShardFiles(path, cache, cache_bytes)
        self._places: KeyTable | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_places": None}

    def plan(self, samples_per_shard: int) -> Iterator[WorkUnit]:
        for unit, num_rows in self._num_rows.items():
            yield from cut_units(
                stem=unit,
                source_shard=shard_name(unit),
                num_samples=num_rows,
                samples_per_shard=samples_per_shard,
            )

    def read(self, unit: WorkUnit) -> Iterator[CleanSample]:
        name = unit.source_shard.removeprefix("shards/").removesuffix(".tar")
        rows = read_index(self._folder, name, _COLUMNS).slice(unit.start, unit.count).to_pylist()
        if len(rows) != unit.count:
            raise UserError(f"source {self._folder.url}: the index of {name} has fewer rows than shards.parquet says")
        with self._folder.open(unit.source_shard) as tar:
            for row in rows:
                label = -1 if row["label"] is None else row["label"]
                image, problem = b"", row["reason"]
                if row["status"] == "ok" and not (problem := image_problem(row["image_length"])):
                    tar.seek(row["image_offset"])
                    image = tar.read(row["image_length"])
                    if len(image) != row["image_length"]:
                        image, problem = b"", "image member cut off"
                yield CleanSample(source_key=row["source_key"], image=image, label=label, problem=problem)

    def fetch(self, source_key: str) -> bytes:
        """From the shards by offset; remote ones are copied whole into the cache. The first call reads all indexes."""
        place = self._table().find(source_key)
        return self._files.read(self._units[place.file], place.offset, place.length)

    def has(self, source_key: str) -> bool:
        """From the indexes, which the first call reads."""
        return source_key in self._table()

    def preload(self) -> None:
        self._table()

    def label_range(self) -> tuple[int, int] | None:
        """Of the usable samples, from the indexes."""
        labels: set[int] = set()
        for unit in self._num_rows:
            rows = read_index(self._folder, unit, ("label", "status"))
            labels.update(rows.filter(pc.equal(rows["status"], "ok"))["label"].unique().to_pylist())
        return (min(labels), max(labels)) if labels else None

    def longest_key(self) -> str | None:
        keys = (read_index(self._folder, unit, ("source_key",))["source_key"].to_pylist() for unit in self._num_rows)
        return longest_encoded(longest_encoded(unit_keys) for unit_keys in keys)

    def identity(self) -> str:
        return self._identity

    def _survey(self, manifest: Manifest) -> Iterator[tuple[str, int]]:
        """Note the rows of every shard; what the identity is made of: the tars hold the labels."""
        yield manifest.clean_sha256, manifest.shards
        for shard in shards_in_table(self._folder):
            self._num_rows[shard.unit] = shard.rows
            yield f"{shard.unit} {shard.tar_sha256}", shard.rows

    def _table(self) -> KeyTable:
        if self._places is None:
            folder = open_folder(self._folder.url)  # of this process, which may have been forked since
            with ThreadPoolExecutor(_INDEXES_AT_ONCE) as pool:
                self._places = KeyTable(pool.map(partial(_places, folder), self._units, range(len(self._units))))
        return self._places


def _places(folder: Folder, unit: str, number: int) -> Places:
    rows = read_index(folder, unit, ("source_key", "status", "image_offset", "image_length"))
    usable = rows.filter(pc.equal(rows["status"], "ok"))
    return Places(
        file=number,
        digests=digests_of(usable["source_key"].to_pylist()),
        offsets=usable["image_offset"].to_numpy(),
        lengths=usable["image_length"].to_numpy(),
    )
