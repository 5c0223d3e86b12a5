"""One unit of a codes-only set in memory: its rows, and the codes and logits that stand in its index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dad_datasets.errors import UserError
from dad_datasets.index import Row, ShardSummary, read_index, read_summary
from dad_pipeline.expansion.origin import Origin

LISTS = ("codes", "teacher", "teacher_ids", "teacher_rest")
"""Columns kept as arrow's: as Python numbers they would take twenty times the memory."""


@dataclass(frozen=True, kw_only=True)
class StoredCodes:
    """`rows` are without the columns of LISTS, which `lists` holds; `side` is the number of codes along an image."""

    rows: list[Row]
    lists: dict[str, pa.ChunkedArray]
    side: int

    def codes(self, place: int) -> npt.NDArray[np.uint16]:
        """[side, side] of row `place`; zeros where the attack left none, to stand for them in a batch."""
        codes = self.numbers(place, "codes")
        return np.zeros((self.side, self.side), np.uint16) if codes is None else codes.reshape(self.side, self.side)

    def numbers(self, place: int, column: str) -> npt.NDArray[Any] | None:
        """The numbers in a cell; None where it is null, or there is no such column."""
        if column not in self.lists:
            return None
        cell = self.lists[column][place]
        return cell.values.to_numpy(zero_copy_only=False) if cell.is_valid else None


def read_codes(origin: Origin, unit: ShardSummary, *, side: int, num_codes: int) -> StoredCodes:
    """UserError where the index is not of this set, or holds codes that the quantizer does not have."""
    where = f"{origin.folder.url}: the index of {unit.unit}"
    table = read_index(origin.folder, unit.unit)
    summary = read_summary(origin.folder, unit.unit)
    if summary != unit or summary.fingerprint != origin.manifest.fingerprint or len(table) != unit.rows:
        raise UserError(f"{where} is not of this set: its fingerprint or its counts differ")
    names = [name for name in LISTS if name in table.column_names]
    lengths = set(pc.list_value_length(table["codes"]).drop_null().unique().to_pylist())
    largest = pc.max(pc.list_flatten(table["codes"])).as_py() or 0
    if lengths - {side * side} or largest >= num_codes:
        raise UserError(f"{where} holds codes that are not {side} x {side} numbers below {num_codes:,}")
    return StoredCodes(
        rows=table.drop_columns(names).to_pylist(), lists={name: table[name] for name in names}, side=side
    )
