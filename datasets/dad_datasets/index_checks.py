"""Whether an index holds what the format says, whoever wrote it: its columns, their types, the cells in use."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from dad_datasets.errors import UserError

_NEVER_EMPTY = {"key", "source_key", "source_shard", "view", "status", "reason"}
_STATUSES = ("ok", "clean_only", "failed")


def check_columns(schema: pa.Schema, wanted: Iterable[str], known: pa.Schema, *, origin: str) -> None:
    """UserError unless `schema` has each wanted column once, and the known ones with their types."""
    names = schema.names
    if missing := set(wanted) - set(names):
        raise UserError(f"{origin}: has no column {min(missing)}")
    for name in known.names:
        if names.count(name) > 1:
            raise UserError(f"{origin}: has the column {name} twice")
        if name in names and schema.field(name).type != known.field(name).type:
            found, expected = schema.field(name).type, known.field(name).type
            raise UserError(f"{origin}: its column {name} is {found}; expected {expected}")


def check_cells(rows: pa.Table, filled: Collection[str], *, origin: str) -> None:
    """UserError where a cell that readers rely on is empty or impossible; pa.ArrowInvalid for what is no table.

    `filled` are the columns that have a value in every row of a stored view.
    """
    rows.validate(full=True)  # texts may be no Unicode
    for name in _NEVER_EMPTY & set(rows.column_names):
        if rows[name].null_count:
            raise UserError(f"{origin}: its column {name} has empty cells")
    if "status" not in rows.column_names:
        return
    if not pc.all(pc.is_in(rows["status"], pa.array(_STATUSES)), min_count=0).as_py():
        raise UserError(f"{origin}: its column status holds other words than {', '.join(_STATUSES)}")
    stored = rows.filter(pc.equal(rows["status"], "ok"))
    for name in stored.column_names:
        if name in filled and stored[name].null_count:
            raise UserError(f"{origin}: its column {name} has empty cells of views that are stored")
        is_place = name in filled and name.endswith(("_offset", "_length"))
        if is_place and not pc.all(pc.greater_equal(stored[name], 0), min_count=0).as_py():
            raise UserError(f"{origin}: its column {name} holds numbers below 0")
