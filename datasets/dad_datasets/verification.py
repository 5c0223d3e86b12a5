"""Whether a dataset is whole: hashes, counts, and that every row finds its members where it says."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

from dad_datasets.clean_hash import CleanHash
from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index import ShardSummary, read_index, read_summary
from dad_datasets.layout import SHARDS, shard_name
from dad_datasets.manifest import Manifest, fingerprint_of
from dad_datasets.record import pixels_sha256
from dad_datasets.shard_reader import ShardReader, open_shard
from dad_datasets.shard_table import read_shard_table
from dad_datasets.summary import finished_units

CHUNK_BYTES = 2**20


def problems(folder: Folder, manifest: Manifest) -> Iterator[str]:
    """One sentence for each thing that is wrong with an adversarial dataset, shard by shard."""
    if fingerprint_of(manifest.fingerprinted) != manifest.fingerprint:
        yield "manifest.json: its fingerprint is not the hash of its fields"
    yield from _quantizer_problems(folder, manifest)
    units = finished_units(folder)
    summaries: dict[str, ShardSummary] = {}
    for unit in units:
        try:
            summaries[unit] = read_summary(folder, unit)
            yield from _unit_problems(folder, manifest, summaries[unit])
        except UserError as error:
            yield str(error)
    orphans = {name.removesuffix(".tar") for name in folder.names(SHARDS)} - set(units)
    for orphan in sorted(orphans):
        yield f"{shard_name(orphan)}: has no index; the run that wrote it did not finish it"
    if manifest.state == "finished":
        yield from _total_problems(folder, manifest, summaries)


def _quantizer_problems(folder: Folder, manifest: Manifest) -> Iterator[str]:
    """A codes-only set is worth nothing without the quantizer that travels with it."""
    if manifest.recipe["store"]["image"] == "none" and not manifest.quantizer_files:
        yield "manifest.json: a codes-only set must name the files of its quantizer"
    for name, expected in manifest.quantizer_files.items():
        try:
            actual = file_sha256(folder, name)
        except FileNotFoundError:
            yield f"{name}: the quantizer's file is missing"
            continue
        if actual != expected:
            yield f"{name}: its bytes are not those that were written (sha256 differs)"


def _total_problems(folder: Folder, manifest: Manifest, summaries: Mapping[str, ShardSummary]) -> Iterator[str]:
    try:
        table = read_shard_table(folder)
    except UserError as error:
        yield str(error)
        return
    listed = {row.unit: row for row in table}
    for unit in sorted(listed.keys() ^ summaries.keys()):
        where = "only in shards.parquet" if unit in listed else "in index/ but not in shards.parquet"
        yield f"unit {unit} stands {where}"
    for unit in sorted(unit for unit in listed.keys() & summaries.keys() if listed[unit] != summaries[unit]):
        yield f"unit {unit}: shards.parquet and the index disagree"
    if manifest.shards != len(table):
        yield f"manifest.json: {manifest.shards} shards, but shards.parquet lists {len(table)}"
    if listed.keys() != summaries.keys():
        return  # the clean hash needs every index
    clean, samples = CleanHash(), 0
    for row in table:
        try:
            rows = read_index(folder, row.unit, ["view", "source_key", "source_sha256"])
        except UserError:
            return  # said already, with its shard
        for cells in rows.to_pylist():
            if cells["view"] == 0:
                clean.add(cells["source_key"], cells["source_sha256"])
                samples += 1
    if (samples, clean.hexdigest()) != (manifest.samples, manifest.clean_sha256):
        yield "manifest.json: the number or the hash of the clean samples is not that of the indexes"


def _unit_problems(folder: Folder, manifest: Manifest, summary: ShardSummary) -> Iterator[str]:
    if summary.fingerprint != manifest.fingerprint:
        yield f"unit {summary.unit}: made by another run (its fingerprint differs)"
    rows = read_index(folder, summary.unit).to_pylist()
    counts = tuple(sum(row["status"] == status for row in rows) for status in ("ok", "clean_only", "failed"))
    if (len(rows), *counts) != (summary.rows, summary.ok, summary.clean_only, summary.failed):
        yield f"unit {summary.unit}: the rows of its index are not as many as its summary says"
    if manifest.recipe["store"]["image"] == "none":
        return
    with open_shard(folder, summary.unit) as shard:
        if file_sha256(folder, shard_name(summary.unit)) != summary.tar_sha256:
            yield f"{shard_name(summary.unit)}: its bytes are not those that were written (sha256 differs)"
            return  # every member would only repeat it
        with folder.open(shard_name(summary.unit)) as headers:  # opened once: on an object store it costs a request
            for row in rows:
                if row["status"] == "ok":
                    yield from _record_problems(headers, summary.unit, shard, row)


def _record_problems(headers: IO[bytes], unit: str, shard: ShardReader, row: Mapping[str, Any]) -> Iterator[str]:
    where = f"{shard_name(unit)}: {row['key']}"
    if misplaced := misplaced_member(headers, row):
        yield f"{where}: {misplaced}"
        return
    if shard.member(row, "cls") != str(row["label"]).encode():
        yield f"{where}: its .cls is not the index's label"
    if pixels_sha256(shard.canvas(row)) != row["image_sha256"]:
        yield f"{where}: its pixels are not those that the index's hash was taken of"


def misplaced_member(headers: IO[bytes], row: Mapping[str, Any]) -> str:
    """What is wrong with the first member of a record that does not stand in its tar where its row says; or nothing."""
    for stem in [column.removesuffix("_offset") for column in row if column.endswith("_offset")]:
        headers.seek(row[f"{stem}_offset"] - tarfile.BLOCKSIZE)
        try:
            header = tarfile.TarInfo.frombuf(headers.read(tarfile.BLOCKSIZE), "ascii", "strict")
        except tarfile.HeaderError:
            return f"no tar member starts where the index says that its {stem} does"
        if not header.name.startswith(f"{row['key']}.") or header.size != row[f"{stem}_length"]:
            return f"the tar holds {header.name} where the index says that its {stem} is"
    return ""


def file_sha256(folder: Folder, name: str) -> str:
    """Hex digest of a file's bytes. FileNotFoundError where there is none."""
    digest = hashlib.sha256()
    with folder.open(name) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
