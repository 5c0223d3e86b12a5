"""The work units of a run in columns: a million take 130 MB and are compared with what is finished all at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from dad_datasets.sources import WorkUnit

_SCHEMA = pa.schema(
    [
        ("name", pa.large_string()),
        ("source_shard", pa.large_string()),
        ("start", pa.int64()),
        ("count", pa.int64()),
    ]
)
_ROWS_AT_ONCE = 4096


class UnitTable:
    """Units in the order of the source, made into objects one after another as they are asked for."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    @classmethod
    def of(cls, units: Iterable[WorkUnit]) -> UnitTable:
        """All of `units`, of which few are objects at a time."""
        remaining, batches = iter(units), []
        while taken := list(islice(remaining, _ROWS_AT_ONCE)):
            columns = [[getattr(unit, name) for unit in taken] for name in _SCHEMA.names]
            batches.append(pa.record_batch(columns, schema=_SCHEMA))
        return cls(pa.Table.from_batches(batches, schema=_SCHEMA))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> WorkUnit:
        return WorkUnit(**self._rows.slice(range(len(self))[place], 1).to_pylist()[0])

    def __iter__(self) -> Iterator[WorkUnit]:
        for batch in self._rows.to_batches(max_chunksize=_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                yield WorkUnit(**row)

    def spread(self, most: int) -> list[WorkUnit]:
        """At most so many units, from all over the source."""
        step = max(1, len(self) // most)
        return [self[place] for place in range(0, len(self), step)[:most]]

    @property
    def num_samples(self) -> int:
        return pc.sum(self._rows["count"]).as_py() or 0

    @property
    def names(self) -> list[str]:
        names: list[str] = self._rows["name"].to_pylist()
        return names

    def without(self, names: Collection[str]) -> UnitTable:
        """The units that are not called so."""
        called = pc.is_in(self._rows["name"], pa.array(names, pa.large_string()))
        return UnitTable(self._rows.filter(pc.invert(called)))

    def strangers(self, names: Collection[str]) -> list[str]:
        """Those of `names` that no unit has."""
        given = pa.array(names, pa.large_string())
        found: list[str] = given.filter(pc.invert(pc.is_in(given, self._rows["name"]))).to_pylist()
        return found
