"""The image columns of Parquet files in memory: Parquet itself gives no random access within a row group."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from dad_datasets.errors import UserError
from dad_datasets.sources.clean_source import image_problem
from dad_datasets.sources.parquet_columns import check_image_type
from dad_datasets.sources.parquet_files import num_rows_of, opened_parquet
from dad_datasets.sources.source_files import SourceFile

LARGEST_COLUMNS_BYTES = 8 * 2**30

_KEY = re.compile(r"(.*)/([0-9]{6,18})", re.DOTALL)


class ParquetMemory:
    """Images by "<file stem>/<row as %06d>"; a file's column is read once, whole, when first needed, and not pickled.

    The columns lie in Arrow's buffers, which forked workers share where they were read before the fork. All of them
    together may have at most LARGEST_COLUMNS_BYTES, uncompressed.
    """

    def __init__(self, files: Sequence[SourceFile], column: str) -> None:
        self._files = {file.stem: file for file in files}
        self._column = column
        self._fits = False
        self._loaded: dict[str, pa.ChunkedArray] = {}
        self._num_rows: dict[str, int] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_loaded": {}, "_num_rows": {}}

    def preload(self) -> None:
        """Read all columns. UserError where they are over the bound."""
        for stem in self._files:
            self._images(stem)

    def fetch(self, source_key: str) -> bytes:
        """KeyError where there is no such row or no usable image in it; UserError as `preload`."""
        stem, row = self._place(source_key)
        images = self._images(stem)
        image: bytes | None = images[row].as_py() if row < len(images) else None
        if image is None or image_problem(len(image)):
            raise KeyError(source_key)
        return image

    def has_row(self, source_key: str) -> bool:
        """Whether there is such a row, whatever is in it; reads the file's footer once."""
        try:
            stem, row = self._place(source_key)
        except KeyError:
            return False
        if stem not in self._num_rows:
            self._num_rows[stem] = num_rows_of(self._files[stem])
        return row < self._num_rows[stem]

    def _place(self, source_key: str) -> tuple[str, int]:
        """The file's stem and the row that a key names. KeyError where no row of these files can have it."""
        found = _KEY.fullmatch(source_key)
        if found is None or found[1] not in self._files or source_key != f"{found[1]}/{int(found[2]):06d}":
            raise KeyError(source_key)
        return found[1], int(found[2])

    def _images(self, stem: str) -> pa.ChunkedArray:
        if stem not in self._loaded:
            self._check_size()
            with opened_parquet(self._files[stem]) as parquet:
                leaf = self._leaf(self._files[stem], parquet.schema_arrow)
                self._loaded[stem] = parquet.read(columns=[leaf], use_threads=False).flatten().column(leaf)
        return self._loaded[stem]

    def _check_size(self) -> None:
        """From the footers, before any image is read."""
        if self._fits:
            return
        total = 0
        for file in self._files.values():
            with opened_parquet(file) as parquet:
                total += _column_bytes(parquet.metadata, self._leaf(file, parquet.schema_arrow))
        if total > LARGEST_COLUMNS_BYTES:
            first = next(iter(self._files.values()))
            raise UserError(
                f"source file {first.path}: images in Parquet are read at random from memory, and {total:,} bytes in "
                f"{len(self._files)} file(s) are more than the {LARGEST_COLUMNS_BYTES:,} allowed: "
                "run `dad prepare` on the source and name its output instead"
            )
        self._fits = True

    def _leaf(self, file: SourceFile, schema: pa.Schema) -> str:
        check_image_type(file, schema, self._column)
        return f"{self._column}.bytes" if pa.types.is_struct(schema.field(self._column).type) else self._column


def _column_bytes(metadata: pq.FileMetaData, leaf: str) -> int:
    """Uncompressed."""
    total = 0
    for group in range(metadata.num_row_groups):
        chunks = metadata.row_group(group)
        columns = (chunks.column(index) for index in range(chunks.num_columns))
        total += sum(column.total_uncompressed_size for column in columns if column.path_in_schema == leaf)
    return total
