"""Parquet files opened, with what goes wrong said in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from dad_datasets.errors import UserError
from dad_datasets.sources.source_files import SourceFile
from dad_datasets.store_errors import StoreError


@contextmanager
def opened_parquet(file: SourceFile) -> Iterator[pq.ParquetFile]:
    """UserError where it cannot be opened, or its reading fails within the block."""
    with file.open() as handle:
        try:
            with pq.ParquetFile(handle) as parquet:
                yield parquet
        except StoreError:
            raise
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of a column's name
            reason = str(error).partition("\n")[0]
            raise UserError(f"source file {file.path}: not a readable Parquet file: {reason}") from None


def num_rows_of(file: SourceFile) -> int:
    with opened_parquet(file) as parquet:
        num_rows: int = parquet.metadata.num_rows
    return num_rows
