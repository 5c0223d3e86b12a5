"""Parquet in the layout of Hugging Face image datasets: an image column of bytes and path, an integer label column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from dad_datasets.errors import UserError
from dad_datasets.sources.clean_source import (
    CleanSample,
    WorkUnit,
    cut_units,
    identity_of,
    image_problem,
    label_problem,
    longest_encoded,
)
from dad_datasets.sources.source_files import SourceFile, check_stems

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
_ROWS_AT_ONCE = 256  # of a row group, so that one huge group does not fill the memory


class ParquetImages:
    """Files in the order given; a sample's source key is "<file stem>/<row as %06d>"."""

    def __init__(self, files: list[SourceFile], *, image_column: str | None, label_column: str | None) -> None:
        """UserError where stems collide, the first file has not the columns, or there is no row at all."""
        check_stems(files)
        self._files = {file.name: file for file in files}
        with _opened(files[0]) as parquet:
            schema = parquet.schema_arrow
        self._image = _column(files[0], schema, image_column, IMAGE_COLUMNS, "image_column")
        self._label = _column(files[0], schema, label_column, LABEL_COLUMNS, "label_column")
        _check_types(files[0], schema, self._image, self._label)
        self.class_names = _class_names(schema, self._label)
        if not any(_num_rows(file) for file in files):
            raise UserError(f"source {files[0].path}: the {len(files)} Parquet file(s) hold no row")

    def plan(self, samples_per_shard: int) -> Iterator[WorkUnit]:
        for name, file in self._files.items():
            yield from cut_units(
                stem=file.stem, source_shard=name, num_samples=_num_rows(file), samples_per_shard=samples_per_shard
            )

    def read(self, unit: WorkUnit) -> Iterator[CleanSample]:
        file = self._files[unit.source_shard]
        with _opened(file) as parquet:
            _check_types(file, parquet.schema_arrow, self._image, self._label)
            row = 0
            for group in range(parquet.num_row_groups):
                following = row + parquet.metadata.row_group(group).num_rows
                if following > unit.start and row < unit.start + unit.count:
                    yield from self._read_group(parquet, group, row, unit, file.stem)
                row = following
            if row < unit.start + unit.count:
                raise UserError(f"source file {file.path}: changed since the run was planned")

    def label_range(self) -> tuple[int, int] | None:
        """From the statistics in the files' footers; None where a file has none, or is not local."""
        low: list[int] = []
        high: list[int] = []
        for file in self._files.values():
            if not file.is_local:
                return None
            with _opened(file) as parquet:
                _check_types(file, parquet.schema_arrow, self._image, self._label)
                for group in range(parquet.num_row_groups):
                    if parquet.metadata.row_group(group).num_rows == 0:
                        continue
                    statistics = _statistics(parquet.metadata.row_group(group), self._label)
                    if statistics is None or not statistics.has_min_max:
                        return None
                    low.append(statistics.min)
                    high.append(statistics.max)
        return (min(low), max(high)) if low else None

    def longest_key(self) -> str | None:
        """From the files' stems, as if each had at most a million rows."""
        return longest_encoded(f"{file.stem}/000000" for file in self._files.values())

    def identity(self) -> str:
        return identity_of((file.name, file.size) for file in self._files.values())

    def _read_group(
        self, parquet: pq.ParquetFile, group: int, first_row: int, unit: WorkUnit, stem: str
    ) -> Iterator[CleanSample]:
        row = first_row
        batches = parquet.iter_batches(
            batch_size=_ROWS_AT_ONCE, row_groups=[group], columns=[self._image, self._label], use_threads=False
        )
        for batch in batches:
            start, stop = max(unit.start - row, 0), min(unit.start + unit.count - row, batch.num_rows)
            if start < stop:
                images = batch.column(self._image)
                labels = batch.column(self._label)
                for index in range(start, stop):
                    yield _sample(f"{stem}/{row + index:06d}", images[index], labels[index].as_py())
            row += batch.num_rows
            if row >= unit.start + unit.count:
                return


@contextmanager
def _opened(file: SourceFile) -> Iterator[pq.ParquetFile]:
    with file.open() as handle:
        try:
            with pq.ParquetFile(handle) as parquet:
                yield parquet
        except (pa.ArrowException, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"source file {file.path}: not a readable Parquet file: {reason}") from None


def _num_rows(file: SourceFile) -> int:
    with _opened(file) as parquet:
        num_rows: int = parquet.metadata.num_rows
    return num_rows


def _column(file: SourceFile, schema: pa.Schema, named: str | None, usual: tuple[str, ...], field: str) -> str:
    candidates = (named,) if named is not None else usual
    found = next((name for name in candidates if name in schema.names), None)
    if found is None:
        raise UserError(
            f"source file {file.path}: no column {' or '.join(candidates)}; "
            f"name one of {', '.join(schema.names)} in {field}"
        )
    return found


def _check_types(file: SourceFile, schema: pa.Schema, image: str, label: str) -> None:
    for name in (image, label):
        if name not in schema.names:
            raise UserError(f"source file {file.path}: no column {name}, which the first file has")
    kind = schema.field(image).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    # A column without a single value, as in an empty file, may have been written as null.
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind)):
        raise UserError(
            f"source file {file.path}: column {image} is {schema.field(image).type}; "
            "expected binary or a struct with binary `bytes`"
        )
    kind = schema.field(label).type
    if not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise UserError(f"source file {file.path}: column {label} is {kind}; expected integers")


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """Names of the ClassLabel feature in the metadata that Hugging Face `datasets` writes, if it is there."""
    try:
        names = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _statistics(group: pq.RowGroupMetaData, label: str) -> pq.Statistics | None:
    for index in range(group.num_columns):
        if group.column(index).path_in_schema == label:
            return group.column(index).statistics
    return None


def _sample(source_key: str, image: pa.Scalar, label: int | None) -> CleanSample:
    cell = image.as_py()
    content: bytes | None = cell.get("bytes") if isinstance(cell, dict) else cell
    if content is not None:
        wrong_image = image_problem(len(content))
    elif isinstance(cell, dict) and cell.get("path"):
        wrong_image = "image bytes missing, only a path is given"
    else:
        wrong_image = "image bytes missing"
    wrong_label = "label missing" if label is None else label_problem(label)
    return CleanSample(
        source_key=source_key,
        image=b"" if content is None or wrong_image or wrong_label else content,
        label=-1 if label is None or wrong_label else label,
        problem=wrong_image or wrong_label,
    )
