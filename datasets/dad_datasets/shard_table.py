"""`shards.parquet`: one row per shard, in the order of the source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields

import pyarrow as pa
import pyarrow.parquet as pq

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index import ShardSummary, summary_of
from dad_datasets.layout import SHARD_TABLE

_ROWS_AT_ONCE = 4096

_TYPES = {"str": pa.string(), "int": pa.int64()}


def write_shard_table(folder: Folder, summaries: Iterable[ShardSummary]) -> None:
    """Publish the table, the same bytes for the same shards and library version."""
    schema = pa.schema([(field.name, _TYPES[str(field.type)]) for field in fields(ShardSummary)])
    table = pa.Table.from_pylist([asdict(summary) for summary in summaries], schema=schema)
    with folder.publish(SHARD_TABLE) as stream:
        pq.write_table(table, stream, compression="zstd")


def read_shard_table(folder: Folder) -> list[ShardSummary]:
    """The shards in order. UserError where the table is missing or damaged."""
    return list(shards_in_table(folder))


def shards_in_table(folder: Folder) -> Iterator[ShardSummary]:
    """The same one after another: a list of a million takes 850 MB."""
    try:
        with folder.open(SHARD_TABLE) as stream, pq.ParquetFile(stream) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                yield from map(summary_of, batch.to_pylist())
    except FileNotFoundError:
        raise UserError(f"{folder.url}/{SHARD_TABLE}: the table of shards is missing") from None
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        raise UserError(f"{folder.url}/{SHARD_TABLE}: the table of shards is damaged: {error}") from None
