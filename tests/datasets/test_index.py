"""The index: the contract's columns and types, the same bytes each time, damage told in one sentence."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.index import (
    Row,
    ShardSummary,
    index_schema,
    inline_logits,
    read_index,
    read_summary,
    read_summary_and_index,
    record_row,
    span_cells,
    view_cells,
    write_index,
)
from dad_datasets.layout import index_name
from dad_datasets.record import Measurements, Provenance, Record, compress_logits
from dad_datasets.tar_writer import Span
from dad_datasets.views import View

MEMBERS = ("webp", "cls", "teacher.npy", "json")
INLINE = {"teacher": pa.list_(pa.float16())}

CONTRACT = """
    key string, source_key string, source_shard string, view int16, label int32, status string, reason string,
    image_offset int64, image_length int64, cls_offset int64, cls_length int64,
    teacher_offset int64, teacher_length int64, json_offset int64, json_length int64,
    source_sha256 fixed_size_binary[32], canvas_sha256 fixed_size_binary[32], image_sha256 fixed_size_binary[32],
    teacher_clean_top1 int32, teacher_clean_confidence float, teacher_adv_top1 int32, teacher_adv_confidence float,
    objective_before float, objective_after float, l2 float, linf float, psnr_db float, psnr_vqgan_db float,
    codes_changed_by_attack float, teacher_vqgan_top1 int32,
    box_left int32, box_top int32, box_right int32, box_bottom int32, flip bool
"""

SUMMARY = ShardSummary(
    unit="a-00000", fingerprint="f" * 64, tar_sha256="0" * 64, tar_bytes=10240, rows=2, ok=1, clean_only=0, failed=1
)
VIEW = View(index=1, box=(-4, 0, 28, 32), size=32, resize="bicubic", flip=True)
LOGITS = compress_logits(np.array([[1, 2, 3], [3, 2, 1]], np.float32), top_k=None, temperatures=())
MEASURED = Measurements(
    teacher_clean_top1=2,
    teacher_clean_confidence=0.5,
    teacher_adv_top1=0,
    teacher_adv_confidence=0.25,
    objective_before=0.5,
    objective_after=1.5,
    l2=0.125,
    linf=0.25,
    psnr_db=30.5,
    psnr_vqgan_db=31.5,
    codes_changed_by_attack=0.75,
)
RECORD = Record(
    provenance=Provenance(key="k-v1", source_key="k", source_shard="a.tar", label=2, source_sha256=b"s" * 32),
    view=VIEW,
    canvas_sha256=b"c" * 32,
    image=None,
    image_sha256=b"i" * 32,
    codes=None,
    clean=None,
    logits=LOGITS,
    measurements=MEASURED,
    teacher_vqgan_top1=1,
)
SPANS = {"webp": Span(512, 7), "cls": Span(1536, 1), "teacher.npy": Span(2560, 8), "json": Span(3584, 9)}
STORED: Row = {**record_row(RECORD), **span_cells(SPANS)}
FAILED: Row = {
    "key": "b-v0",
    "source_key": "b",
    "source_shard": "a.tar",
    "view": 0,
    "status": "failed",
    "reason": "corrupt",
}


def encoded(rows: list[Row], schema: pa.Schema | None = None) -> bytes:
    stream = io.BytesIO()
    write_index(stream, rows, index_schema(MEMBERS, {}) if schema is None else schema, SUMMARY)
    return stream.getvalue()


def folder_with(path: Path, content: bytes) -> LocalFolder:
    (path / "index").mkdir(exist_ok=True)
    (path / index_name("a-00000")).write_bytes(content)
    return LocalFolder(path)


def test_columns_and_types_are_the_contracts() -> None:
    schema = index_schema(MEMBERS, {})
    assert [f"{field.name} {field.type}" for field in schema] == " ".join(CONTRACT.split()).split(", ")


@pytest.mark.parametrize("extension", ["webp", "png", "jpg"])
def test_members_have_columns_by_their_stem(extension: str) -> None:
    members = (extension, "teacher_ids.npy", "teacher_rest.npy", "codes.npy", "clean.webp")
    names = [name for name in index_schema(members, INLINE).names if name.endswith("_offset") or name in INLINE]
    stems = ["image", "teacher_ids", "teacher_rest", "codes", "clean"]
    assert names == [*(f"{stem}_offset" for stem in stems), "teacher"]


def test_rows_come_back(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, encoded([STORED, FAILED]))
    stored, failed = read_index(folder, "a-00000").to_pylist()
    assert {name: stored[name] for name in STORED} == STORED
    assert (stored["status"], stored["image_offset"], stored["teacher_length"]) == ("ok", 512, 8)
    assert view_cells(VIEW).items() <= stored.items()
    assert {name for name in failed if failed[name] is not None} == set(FAILED)
    assert read_index(folder, "a-00000", ["reason", "key"]).to_pylist()[1] == {"reason": "corrupt", "key": "b-v0"}


def test_inline_logits_come_back(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, encoded([{**STORED, **inline_logits(LOGITS)}], index_schema((), INLINE)))
    assert np.array_equal(read_index(folder, "a-00000").to_pylist()[0]["teacher"], LOGITS.values.ravel())
    top = compress_logits(np.zeros((2, 5), np.float32), top_k=2, temperatures=(1.0, 4.0))
    assert {name: len(cells) for name, cells in inline_logits(top).items()} == {
        "teacher": 4,
        "teacher_ids": 4,
        "teacher_rest": 4,
    }


def test_the_summary_comes_back(tmp_path: Path) -> None:
    assert read_summary(folder_with(tmp_path, encoded([STORED])), "a-00000") == SUMMARY


def test_summary_and_rows_come_with_one_opening(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, encoded([STORED, FAILED]))
    with mock.patch.object(LocalFolder, "open", autospec=True, side_effect=LocalFolder.open) as opened:
        summary, rows = read_summary_and_index(folder, "a-00000", ["reason", "key"])
    opened.assert_called_once()
    assert summary == SUMMARY
    assert rows == read_index(folder, "a-00000", ["reason", "key"])


def test_equal_rows_give_equal_bytes() -> None:
    assert encoded([STORED, FAILED]) == encoded([dict(reversed(STORED.items())), FAILED])
    assert encoded([]) != encoded([FAILED])


READERS = (read_index, read_summary, partial(read_summary_and_index, columns=["key"]))


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    for read in READERS:
        with pytest.raises(UserError, match=r"index/a-00000\.parquet: the index is missing"):
            read(LocalFolder(tmp_path), "a-00000")


def test_damaged_rows_under_a_whole_footer_are_named(tmp_path: Path) -> None:
    content = encoded([STORED] * 50)
    footer = int.from_bytes(content[-8:-4], "little") + 8
    folder = folder_with(tmp_path, b"PAR1" + b"\xff" * (len(content) - footer - 4) + content[-footer:])
    assert read_summary(folder, "a-00000") == SUMMARY
    for read in (read_index, partial(read_summary_and_index, columns=["key"])):
        with pytest.raises(UserError, match="the index is damaged"):
            read(folder, "a-00000")


def test_foreign_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / index_name("a-00000")
    path.parent.mkdir()
    table = pa.table({"key": ["a"]})
    cases = [
        (None, "not an index of this project"),
        ("{", "its summary is damaged"),
        ("7", "its summary is damaged"),
        ('{"format_version": 1, "unit": "a"}', "its summary is damaged"),
        ('{"format_version": 2}', "of another format version than 1"),
    ]
    for metadata, message in cases:
        pq.write_table(table.replace_schema_metadata({"dad": metadata} if metadata else None), path)
        for read in READERS[1:]:
            with pytest.raises(UserError, match=message):
                read(LocalFolder(tmp_path), "a-00000")
    folder_with(tmp_path, encoded([STORED]))
    for read_columns in (read_index, read_summary_and_index):
        with pytest.raises(UserError, match="has no column nosuch"):
            read_columns(LocalFolder(tmp_path), "a-00000", ["key", "nosuch"])


@given(st.binary(max_size=300), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_an_index_or_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes, kept: float) -> None:
    whole = encoded([STORED])
    path = tmp_path_factory.mktemp("noise")
    for content in (noise, b"PAR1" + noise + b"PAR1", whole[: int(kept * (len(whole) - 1))]):
        folder = folder_with(path, content)
        for read in READERS:
            with pytest.raises(UserError, match="the index is damaged"):
                read(folder, "a-00000")
