"""Which columns of a Parquet file are the image and the label, and what the file says about them."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

from dad_datasets.errors import UserError
from dad_datasets.sources.source_files import SourceFile

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")


def find_column(file: SourceFile, schema: pa.Schema, named: str | None, usual: tuple[str, ...], field: str) -> str:
    candidates = (named,) if named is not None else usual
    found = next((name for name in candidates if name in schema.names), None)
    if found is None:
        raise UserError(
            f"source file {file.path}: no column {' or '.join(candidates)}; "
            f"name one of {', '.join(schema.names)} in {field}"
        )
    return found


def check_types(file: SourceFile, schema: pa.Schema, image: str, label: str) -> None:
    check_image_type(file, schema, image)
    if label not in schema.names:
        raise UserError(f"source file {file.path}: no column {label}, which the first file has")
    kind = schema.field(label).type
    if not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise UserError(f"source file {file.path}: column {label} is {kind}; expected integers")


def check_image_type(file: SourceFile, schema: pa.Schema, image: str) -> None:
    if image not in schema.names:
        raise UserError(f"source file {file.path}: no column {image}, which the first file has")
    kind = schema.field(image).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    # A column without a single value, as in an empty file, may have been written as null.
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind)):
        raise UserError(
            f"source file {file.path}: column {image} is {schema.field(image).type}; "
            "expected binary or a struct with binary `bytes`"
        )


def class_names_of(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """Names of the ClassLabel feature in the metadata that Hugging Face `datasets` writes, if it is there."""
    try:
        names = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return tuple(names) if isinstance(names, list) and all(_is_text(name) for name in names) else None


def _is_text(name: object) -> bool:
    # JSON can spell halves of characters, which no file holds afterwards.
    return isinstance(name, str) and not any("\ud800" <= letter <= "\udfff" for letter in name)


def label_statistics(group: pq.RowGroupMetaData, label: str) -> pq.Statistics | None:
    for index in range(group.num_columns):
        if group.column(index).path_in_schema == label:
            return group.column(index).statistics
    return None
