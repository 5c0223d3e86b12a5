"""Work units in columns: what a list of them would give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dad_datasets.sources import WorkUnit
from dad_pipeline import unit_table
from dad_pipeline.unit_table import UnitTable

COUNTS = st.lists(st.integers(1, 2**40), max_size=12)


def units_of(counts: list[int]) -> list[WorkUnit]:
    return [WorkUnit(name=f"u{n}", source_shard=f"s{n // 3}", start=7 * n, count=c) for n, c in enumerate(counts)]


@given(COUNTS)
def test_a_table_holds_the_units_in_order(counts: list[int]) -> None:
    units = units_of(counts)
    table = UnitTable.of(iter(units))
    assert list(table) == units
    assert len(table) == len(units)
    assert [table[place] for place in range(len(units))] == units
    assert table.names == [unit.name for unit in units]
    assert table.num_samples == sum(counts)


@given(COUNTS, st.lists(st.integers(0, 20)))
def test_finished_units_are_left_out_and_strangers_found(counts: list[int], numbers: list[int]) -> None:
    units, names = units_of(counts), [f"u{number}" for number in numbers]
    table = UnitTable.of(units)
    assert list(table.without(names)) == [unit for unit in units if unit.name not in names]
    assert table.strangers(names) == [name for name in names if name not in table.names]


@given(COUNTS, st.integers(1, 5))
def test_some_units_from_all_over_the_source(counts: list[int], most: int) -> None:
    units = units_of(counts)
    assert UnitTable.of(units).spread(most) == units[:: max(1, len(units) // most)][:most]


def test_more_units_than_are_objects_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_table, "_ROWS_AT_ONCE", 2)
    units = units_of([1] * 5)
    table = UnitTable.of(units)
    assert list(table) == units
    assert table[4] == table[-1] == units[4]
    with pytest.raises(IndexError):
        table[5]
