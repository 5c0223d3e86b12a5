"""One work unit of a clean source as a tar and its index, the images' bytes as they are."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa

from dad_datasets.folder import Folder
from dad_datasets.index import IDENTITY_COLUMNS, Row, ShardSummary, span_cells, span_columns, write_index
from dad_datasets.keys import check_member_name, encode_key
from dad_datasets.layout import index_name, shard_name
from dad_datasets.lost_tars import remove_index
from dad_datasets.sources.clean_source import CleanSample, CleanSource, WorkUnit
from dad_datasets.sources.image_types import image_type
from dad_datasets.tar_writer import TarWriter

# `view` is always 0, so that an index of clean shards reads like one of adversarial shards.
CLEAN_SCHEMA = pa.schema(
    [
        *IDENTITY_COLUMNS,
        *span_columns(("jpg", "cls", "json")),
        ("source_sha256", pa.binary(32)),
        ("image_type", pa.string()),
    ]
)


def write_clean_shard(source: CleanSource, folder: Folder, unit: WorkUnit, fingerprint: str) -> ShardSummary:
    """Publish the tar of one work unit, then its index. UserError where a key is too long for a tar member.

    Members of a sample: `<encoded source key>.<type of the image>`, `.cls`, and `.json` with the source key as it is.
    """
    num_classes = None if source.class_names is None else len(source.class_names)
    rows: list[Row] = []
    remove_index(folder, unit.name)
    with folder.publish(shard_name(unit.name)) as stream:
        tar = TarWriter(stream)
        rows.extend(_store(tar, sample, unit, num_classes) for sample in source.read(unit))
        tar_sha256 = tar.finish()
    assert len(rows) == unit.count, (unit, len(rows))
    failed = sum(row["status"] == "failed" for row in rows)
    summary = ShardSummary(
        unit=unit.name,
        fingerprint=fingerprint,
        tar_sha256=tar_sha256,
        tar_bytes=tar.size_bytes,
        rows=len(rows),
        ok=len(rows) - failed,
        clean_only=0,
        failed=failed,
    )
    with folder.publish(index_name(unit.name)) as stream:
        write_index(stream, rows, CLEAN_SCHEMA, summary)
    return summary


def _store(tar: TarWriter, sample: CleanSample, unit: WorkUnit, num_classes: int | None) -> Row:
    """The sample's row; its members are in the tar unless it failed."""
    key = encode_key(sample.source_key)
    check_member_name(key)
    extension = image_type(sample.image)
    reason = sample.problem or ("unknown image type" if extension is None else "")
    if not reason and num_classes is not None and sample.label >= num_classes:
        reason = "label is not below the number of classes"
    row: Row = {
        "key": key,
        "source_key": sample.source_key,
        "source_shard": unit.source_shard,
        "view": 0,
        "label": None if sample.label < 0 else sample.label,
        "status": "failed" if reason else "ok",
        "reason": reason,
        "source_sha256": hashlib.sha256(sample.image).digest(),
    }
    if not reason:
        spans = {
            "jpg": tar.add(f"{key}.{extension}", sample.image),  # the column is `image` whatever the type
            "cls": tar.add(f"{key}.cls", b"%d" % sample.label),
            "json": tar.add(f"{key}.json", json.dumps({"source_key": sample.source_key}).encode()),
        }
        row |= {**span_cells(spans), "image_type": extension}
    return row
