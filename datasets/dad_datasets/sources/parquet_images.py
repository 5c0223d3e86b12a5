"""Parquet in the layout of Hugging Face image datasets: an image column of bytes and path, an integer label column."""

from __future__ import annotations

from collections.abc import Iterator

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
from dad_datasets.sources.parquet_columns import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    check_types,
    class_names_of,
    find_column,
    label_statistics,
)
from dad_datasets.sources.parquet_files import num_rows_of, opened_parquet
from dad_datasets.sources.parquet_memory import ParquetMemory
from dad_datasets.sources.source_files import SourceFile, check_stems

_ROWS_AT_ONCE = 256  # of a row group, so that one huge group does not fill the memory


class ParquetImages:
    """Files in the order given; a sample's source key is "<file stem>/<row as %06d>"."""

    def __init__(self, files: list[SourceFile], *, image_column: str | None, label_column: str | None) -> None:
        """UserError where stems collide, the first file has not the columns, or there is no row at all."""
        check_stems(files)
        self._files = {file.name: file for file in files}
        with opened_parquet(files[0]) as parquet:
            schema = parquet.schema_arrow
        self._image = find_column(files[0], schema, image_column, IMAGE_COLUMNS, "image_column")
        self._label = find_column(files[0], schema, label_column, LABEL_COLUMNS, "label_column")
        check_types(files[0], schema, self._image, self._label)
        self.class_names = class_names_of(schema, self._label)
        if not any(num_rows_of(file) for file in files):
            raise UserError(f"source {files[0].path}: the {len(files)} Parquet file(s) hold no row")
        self._memory = ParquetMemory(files, self._image)

    def plan(self, samples_per_shard: int) -> Iterator[WorkUnit]:
        for name, file in self._files.items():
            yield from cut_units(
                stem=file.stem, source_shard=name, num_samples=num_rows_of(file), samples_per_shard=samples_per_shard
            )

    def read(self, unit: WorkUnit) -> Iterator[CleanSample]:
        file = self._files[unit.source_shard]
        with opened_parquet(file) as parquet:
            check_types(file, parquet.schema_arrow, self._image, self._label)
            row = 0
            for group in range(parquet.num_row_groups):
                following = row + parquet.metadata.row_group(group).num_rows
                if following > unit.start and row < unit.start + unit.count:
                    yield from self._read_group(parquet, group, row, unit, file.stem)
                row = following
            if row < unit.start + unit.count:
                raise UserError(f"source file {file.path}: changed since the run was planned")

    def fetch(self, source_key: str) -> bytes:
        """Loads a file's images into memory; UserError where all of them are over 8 GiB: prepare such a source."""
        return self._memory.fetch(source_key)

    def has(self, source_key: str) -> bool:
        """By the number of rows in the file's footer: a row without a usable image counts too."""
        return self._memory.has_row(source_key)

    def preload(self) -> None:
        self._memory.preload()

    def label_range(self) -> tuple[int, int] | None:
        """From the statistics in the files' footers; None where a file has none, or is not local."""
        low: list[int] = []
        high: list[int] = []
        for file in self._files.values():
            if not file.is_local:
                return None
            with opened_parquet(file) as parquet:
                check_types(file, parquet.schema_arrow, self._image, self._label)
                for group in range(parquet.num_row_groups):
                    if parquet.metadata.row_group(group).num_rows == 0:
                        continue
                    statistics = label_statistics(parquet.metadata.row_group(group), self._label)
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
