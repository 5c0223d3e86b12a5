"""Any bytes as Parquet: an index, a table of shards, a source; rows or one sentence."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_files import damaged
from hypothesis import given, settings
from hypothesis import strategies as st

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.index import ShardSummary, index_schema, read_index, read_summary_and_index, write_index
from dad_datasets.layout import SHARD_TABLE, index_name
from dad_datasets.shard_table import read_shard_table, write_shard_table
from dad_datasets.sources import SourceSettings, open_source
from dad_datasets.sources.clean_source import image_problem

UNIT = "a-00000"
SUMMARY = ShardSummary(unit=UNIT, fingerprint="f", tar_sha256="0", tar_bytes=9, rows=3, ok=2, clean_only=0, failed=1)
ROWS = [
    {
        "key": f"k{number}-v0",
        "source_key": f"k{number}",
        "source_shard": "a.tar",
        "view": 0,
        "label": number,
        "status": "failed" if number == 2 else "ok",
        "reason": "corrupt" if number == 2 else "",
        "image_offset": 512,
        "image_length": 9,
        "source_sha256": bytes(32),
    }
    for number in range(3)
]
CHANGES = st.lists(
    st.tuples(st.one_of(st.floats(0, 1, exclude_max=True), st.floats(0.6, 1, exclude_max=True)), st.integers(0, 255)),
    max_size=6,
)


def stored_index() -> bytes:
    stream = io.BytesIO()
    write_index(stream, ROWS, index_schema(("webp",), {"teacher": pa.list_(pa.float16())}), SUMMARY)
    return stream.getvalue()


def stored_table(folder: Path) -> bytes:
    write_shard_table(LocalFolder(folder), [SUMMARY, SUMMARY])
    return (folder / SHARD_TABLE).read_bytes()


def source_file() -> bytes:
    stream = io.BytesIO()
    images = [{"bytes": b"\xff\xd8\xff" * number, "path": None} for number in range(1, 5)]
    pq.write_table(pa.table({"image": images, "label": [0, 1, 2, 3]}), stream, row_group_size=2)
    return stream.getvalue()


INDEX, SOURCE = stored_index(), source_file()


def check_index(folder: Path, content: bytes) -> None:
    path = folder / index_name(UNIT)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    opened = LocalFolder(folder)
    try:
        for row in read_index(opened, UNIT).to_pylist():
            assert isinstance(row["key"], str)
            assert row["status"] in ("ok", "clean_only", "failed")
            assert row["status"] != "ok" or (row["image_offset"] >= 0 and row["image_length"] >= 0)
        summary, _ = read_summary_and_index(opened, UNIT, ["key", "status"])
        assert "/" not in summary.unit
    except UserError as error:
        assert index_name(UNIT) in str(error)  # noqa: PT017 - both outcomes are right


@given(changes=CHANGES, kept=st.one_of(st.just(1.0), st.floats(0, 1)))
@settings(max_examples=250, deadline=None, derandomize=True)
def test_any_damage_to_an_index(
    changes: list[tuple[float, int]], kept: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_index(tmp_path_factory.mktemp("index"), damaged(INDEX, changes, kept))


@given(start=st.sampled_from([b"", b"PAR1"]), content=st.binary(max_size=200), end=st.sampled_from([b"", b"PAR1"]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_bytes_as_an_index(
    start: bytes, content: bytes, end: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_index(tmp_path_factory.mktemp("index"), start + content + end)


@given(changes=CHANGES, kept=st.one_of(st.just(1.0), st.floats(0, 1)))
@settings(max_examples=120, deadline=None, derandomize=True)
def test_any_damage_to_the_table_of_shards(
    changes: list[tuple[float, int]], kept: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("table")
    (folder / SHARD_TABLE).write_bytes(damaged(stored_table(folder), changes, kept))
    try:
        assert all(
            isinstance(each.rows, int) and "/" not in each.unit for each in read_shard_table(LocalFolder(folder))
        )
    except UserError as error:
        assert "table of shards is damaged" in str(error)  # noqa: PT017 - both outcomes are right


@given(changes=CHANGES, kept=st.one_of(st.just(1.0), st.floats(0, 1)))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_damage_to_a_source(
    changes: list[tuple[float, int]], kept: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("source")
    (folder / "a.parquet").write_bytes(damaged(SOURCE, changes, kept))
    try:
        source = open_source(SourceSettings(path=str(folder)))
        samples = [each for unit in source.plan(3) for each in source.read(unit)]
        assert all(each.problem or not image_problem(len(each.image)) for each in samples)
        source.label_range()
        for each in samples:
            try:
                source.fetch(each.source_key)
            except KeyError:
                assert each.problem
    except UserError as error:
        assert "a.parquet" in str(error)  # noqa: PT017 - both outcomes are right
        assert "\n" not in str(error)  # noqa: PT017
