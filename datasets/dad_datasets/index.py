"""The Parquet index beside each tar: a row per input view, failed ones too; that it is there says: finished."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index_checks import check_cells, check_columns
from dad_datasets.layout import FORMAT_VERSION, index_name, is_unit_name
from dad_datasets.mistakes import shortened
from dad_datasets.record import Logits, Measurements, Record
from dad_datasets.store_errors import StoreError
from dad_datasets.tar_writer import Span
from dad_datasets.views import ResizeName, View

Status = Literal["ok", "clean_only", "failed"]

Row = dict[str, Any]
"""Values by column name; a column that is left out is null."""

METADATA_KEY = b"dad"

_MEASURED_TYPES = {"int": pa.int32(), "float": pa.float32()}


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What a unit's index says of its shard: stored in the Parquet file's metadata, collected in shards.parquet."""

    unit: str
    fingerprint: str
    tar_sha256: str
    """Empty where the unit has no tar (codes only)."""
    tar_bytes: int
    rows: int
    ok: int
    clean_only: int
    failed: int


IDENTITY_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("key", pa.string()),
    ("source_key", pa.string()),
    ("source_shard", pa.string()),
    ("view", pa.int16()),
    ("label", pa.int32()),
    ("status", pa.string()),
    ("reason", pa.string()),
)
"""What every index begins with, of clean shards as of adversarial ones."""


def index_schema(members: Sequence[str], inline: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns of an index whose tar holds `members` (extensions); `inline` columns stand in Parquet alone."""
    columns: list[tuple[str, pa.DataType]] = [
        *IDENTITY_COLUMNS,
        *span_columns(members),
        ("source_sha256", pa.binary(32)),
        ("canvas_sha256", pa.binary(32)),
        ("image_sha256", pa.binary(32)),
        *((field.name, _MEASURED_TYPES[str(field.type)]) for field in fields(Measurements)),
        ("teacher_vqgan_top1", pa.int32()),
        ("box_left", pa.int32()),
        ("box_top", pa.int32()),
        ("box_right", pa.int32()),
        ("box_bottom", pa.int32()),
        ("flip", pa.bool_()),
        *inline.items(),
    ]
    return pa.schema(columns)


def span_columns(members: Iterable[str]) -> list[tuple[str, pa.DataType]]:
    """Offset and length columns of tar members."""
    return [(f"{member_column(m)}_{part}", pa.int64()) for m in members for part in ("offset", "length")]


def member_column(extension: str) -> str:
    """The stem of a member's columns: the image's is `image` whatever its format."""
    if extension == "clean.webp":
        return "clean"
    return "image" if extension in ("webp", "png", "jpg") else extension.removesuffix(".npy")


def span_cells(spans: Mapping[str, Span]) -> Row:
    """The cells of members that stand at `spans` (by extension)."""
    cells: Row = {}
    for extension, span in spans.items():
        column = member_column(extension)
        cells[f"{column}_offset"], cells[f"{column}_length"] = span.offset, span.length
    return cells


def record_row(record: Record) -> Row:
    """The row of an adversarial view, before it is known where its members stand."""
    return {
        **vars(record.provenance),
        **view_cells(record.view),
        **vars(record.measurements),
        "status": "ok",
        "reason": "",
        "canvas_sha256": record.canvas_sha256,
        "image_sha256": record.image_sha256,
        "teacher_vqgan_top1": record.teacher_vqgan_top1,
    }


def view_cells(view: View) -> Row:
    """The cells of a view's parameters."""
    left, top, right, bottom = view.box
    return {
        "view": view.index,
        "box_left": left,
        "box_top": top,
        "box_right": right,
        "box_bottom": bottom,
        "flip": view.flip,
    }


def view_in(row: Mapping[str, Any], *, size: int, resize: ResizeName) -> View:
    """The view whose parameters stand in `row`; size and filter are those of its dataset."""
    box = (row["box_left"], row["box_top"], row["box_right"], row["box_bottom"])
    return View(index=row["view"], box=box, size=size, resize=resize, flip=row["flip"])


def inline_logits(logits: Logits) -> Row:
    """A view's logits as cells of the index, rows one after another."""
    cells: Row = {"teacher": logits.values.ravel()}
    if logits.ids is not None and logits.rest is not None:
        cells |= {"teacher_ids": logits.ids.ravel(), "teacher_rest": logits.rest.ravel()}
    return cells


def summary_of(document: Mapping[str, Any]) -> ShardSummary:
    """The summary whose fields are those of `document`. ValueError or TypeError where they cannot be one's."""
    wrong = [field.name for field in fields(ShardSummary) if type(document.get(field.name)).__name__ != field.type]
    if wrong:
        raise TypeError(f"{wrong[0]} = {shortened(repr(document.get(wrong[0])))}")
    summary = ShardSummary(**document)
    if not is_unit_name(summary.unit):  # it leads to files, of which some are written
        raise ValueError(f"unit = {shortened(repr(summary.unit))}")
    return summary


def write_index(stream: IO[bytes], rows: Sequence[Row], schema: pa.Schema, summary: ShardSummary) -> None:
    """Write rows as Parquet, the same bytes for the same rows and library version."""
    columns = {name: pa.array([row.get(name) for row in rows], type=schema.field(name).type) for name in schema.names}
    metadata = {"format_version": FORMAT_VERSION, **asdict(summary)}
    table = pa.table(columns, schema=schema.with_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True)}))
    pq.write_table(table, stream, compression="zstd", write_page_checksum=True)


_KNOWN = index_schema(
    ("webp", "cls", "teacher.npy", "teacher_ids.npy", "teacher_rest.npy", "codes.npy", "clean.webp", "json"), {}
)
_FILLED = frozenset(name for name in _KNOWN.names if name.endswith(("_offset", "_length"))) | {"label"}


def read_index(folder: Folder, unit: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a unit's index. UserError where it is missing or damaged."""
    with _opened(folder, unit) as file:
        return _rows_in(file, columns, f"{folder.url}/{index_name(unit)}")


def read_summary(folder: Folder, unit: str) -> ShardSummary:
    """The summary in a unit's index, from its footer alone."""
    with _opened(folder, unit) as file:
        return _summary_in(file, f"{folder.url}/{index_name(unit)}")


def read_summary_and_index(folder: Folder, unit: str, columns: Sequence[str]) -> tuple[ShardSummary, pa.Table]:
    """`read_summary` and `read_index` with one opening, which is what costs on an object store."""
    with _opened(folder, unit) as file:
        origin = f"{folder.url}/{index_name(unit)}"
        return _summary_in(file, origin), _rows_in(file, columns, origin)


def _rows_in(file: pq.ParquetFile, columns: Sequence[str] | None, origin: str) -> pa.Table:
    check_columns(file.schema_arrow, columns or (), _KNOWN, origin=origin)
    rows = file.read(columns=None if columns is None else list(columns))
    check_cells(rows, _FILLED, origin=origin)
    return rows


def _summary_in(file: pq.ParquetFile, origin: str) -> ShardSummary:
    raw = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise UserError(f"{origin}: not an index of this project")
    try:
        document = dict(json.loads(raw))
        if document.pop("format_version", None) != FORMAT_VERSION:
            raise UserError(f"{origin}: of another format version than {FORMAT_VERSION}")
        return summary_of(document)
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{origin}: its summary is damaged") from None


@contextmanager
def _opened(folder: Folder, unit: str) -> Iterator[pq.ParquetFile]:
    # Errors of reading are caught too: a footer may be whole where the rows before it are not.
    name = index_name(unit)
    try:
        with folder.open(name) as stream, pq.ParquetFile(stream, page_checksum_verification=True) as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{folder.url}/{name}: the index is missing") from None
    except StoreError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of a column's name
        raise UserError(f"{folder.url}/{name}: the index is damaged: {error}") from None
