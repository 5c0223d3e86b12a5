"""Datasets that somebody else made, or changed: what they claim is checked before it is believed."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_files import Payload
from PIL import Image
from typer.testing import CliRunner

from dad_datasets import cli
from dad_datasets.clean_views import CleanViews
from dad_datasets.cli import build_app
from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.index import Row, ShardSummary, index_schema, read_index, read_summary, write_index
from dad_datasets.layout import MANIFEST, SHARD_TABLE, index_name, shard_name
from dad_datasets.manifest import LARGEST_MANIFEST_BYTES, read_manifest
from dad_datasets.record import npy_bytes, read_npy
from dad_datasets.recorded_source import recorded_source
from dad_datasets.shard_files import ShardFiles
from dad_datasets.shard_reader import LARGEST_MEMBER_BYTES, ShardReader
from dad_datasets.shard_table import read_shard_table, write_shard_table
from dad_datasets.sources import SourceSettings, open_source
from dad_datasets.views import View, replay

UNIT = "a-00000"
SUMMARY = ShardSummary(unit=UNIT, fingerprint="", tar_sha256="", tar_bytes=0, rows=1, ok=1, clean_only=0, failed=0)
SCHEMA = index_schema(("webp", "json"), {})
ROW: Row = {
    "key": "k-v0",
    "source_key": "k",
    "source_shard": "a.tar",
    "view": 0,
    "label": 1,
    "status": "ok",
    "reason": "",
    **dict.fromkeys(("image_offset", "image_length", "json_offset", "json_length"), 1),
}


def with_index(
    folder: Path, rows: list[Row], schema: pa.Schema = SCHEMA, summary: ShardSummary = SUMMARY
) -> LocalFolder:
    result = LocalFolder(folder)
    with result.publish(index_name(UNIT)) as stream:
        write_index(stream, rows, schema, summary)
    return result


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda s: s.set(s.get_field_index("label"), pa.field("label", pa.string())),
            "label is string; expected int32",
        ),
        (lambda s: s.set(s.get_field_index("key"), pa.field("key", pa.binary())), "key is binary; expected string"),
        (
            lambda s: s.set(s.get_field_index("image_offset"), pa.field("image_offset", pa.float64())),
            "image_offset is double; expected int64",
        ),
        (lambda s: s.append(pa.field("label", pa.int32())), "has the column label twice"),
        (lambda s: s.remove(s.get_field_index("status")), "has no column status"),
    ],
)
def test_an_index_with_other_columns_is_told(
    tmp_path: Path, change: Callable[[pa.Schema], pa.Schema], told: str
) -> None:
    folder = with_index(tmp_path, [ROW])
    schema = change(SCHEMA)
    table = pa.Table.from_arrays([pa.nulls(1, field.type) for field in schema], schema=schema)
    pq.write_table(table, tmp_path / index_name(UNIT))
    with pytest.raises(UserError, match=told):
        read_index(folder, UNIT, ["key", "status"])


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ({"key": None}, "column key has empty cells"),
        ({"label": None}, "column label has empty cells of views that are stored"),
        ({"image_offset": None}, "column image_offset has empty cells"),
        ({"json_length": -1}, "column json_length holds numbers below 0"),
        ({"status": "good"}, "column status holds other words than ok, clean_only, failed"),
    ],
)
def test_cells_that_readers_rely_on_are_there(tmp_path: Path, cells: Row, told: str) -> None:
    folder = with_index(tmp_path, [{**ROW, **cells}])
    with pytest.raises(UserError, match=told):
        read_index(folder, UNIT)
    failed = {**ROW, **cells, "status": "failed"}
    if not {"key", "status"} & cells.keys():  # what failed has no members
        assert read_index(with_index(tmp_path, [failed]), UNIT).num_rows == 1


NAMES = ["../up", "/etc/passwd", "a/b", "", ".hidden", "..", "a\0b", "x" * 300]


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    hostile = ShardSummary(**{**vars(SUMMARY), "unit": name})
    folder = with_index(tmp_path, [ROW], summary=hostile)
    write_shard_table(folder, [SUMMARY, hostile])
    with pytest.raises(UserError, match=r"shards\.parquet: the table of shards is damaged: unit = "):
        read_shard_table(folder)
    with pytest.raises(UserError, match="its summary is damaged"):
        read_summary(folder, UNIT)


def test_a_table_of_shards_with_other_columns_is_told(tmp_path: Path) -> None:
    for table in ({"unit": [1]}, {"unit": ["a"]}, {**{k: [v] for k, v in vars(SUMMARY).items()}, "rows": ["1"]}):
        pq.write_table(pa.table(table), tmp_path / SHARD_TABLE)
        with pytest.raises(UserError, match="table of shards is damaged"):
            read_shard_table(LocalFolder(tmp_path))


def manifest(**fields: object) -> dict[str, object]:
    recipe = {"source": {}, "store": {"image": "webp"}, "views": {}, "samples_per_shard": 1}
    return {
        "kind": "adversarial",
        "state": "finished",
        "fingerprint": "",
        "fingerprinted": {},
        "recipe": recipe,
        "class_names": None,
        "num_classes": 3,
        "shards": 1,
        "samples": 1,
        "clean_sha256": "",
        **fields,
    }


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"quantizer_files": {"../../home/.profile": "0"}}, "'../../home/.profile' is no file in quantizer/"),
        ({"quantizer_files": {"quantizer/../x": "0"}}, "is no file in quantizer/"),
        ({"quantizer_files": {"/etc/passwd": "0"}}, "is no file in quantizer/"),
        ({"num_classes": 10**12}, "num_classes = 1,000,000,000,000: should be at most 16,777,216"),
        ({"num_classes": -1}, "num_classes = -1: should be greater than or equal to 0"),
        ({"class_names": ["a"]}, "1 class_names, but num_classes = 3"),
        ({"recipe": {"source": 1, "store": 2, "views": {}}}, "its recipe lacks source, store, samples_per_shard"),
        ({"recipe": []}, "recipe = \\[\\]: should be a section of fields"),
    ],
)
def test_a_manifest_is_checked(tmp_path: Path, fields: dict[str, object], told: str) -> None:
    path = tmp_path / MANIFEST
    path.write_text(json.dumps(manifest()))
    assert read_manifest(LocalFolder(tmp_path)).num_classes == 3
    path.write_text(json.dumps(manifest(**fields)))
    with pytest.raises(UserError, match=told):
        read_manifest(LocalFolder(tmp_path))


@pytest.mark.parametrize(
    "path",
    ["http://203.0.113.7/x", "github://o:r@main/", "zip://a::s3://b/c", "data:,x", "S3://b", "ftp://h/x", "::/x"],
)
def test_a_manifest_cannot_send_a_reader_to_any_server(tmp_path: Path, path: str) -> None:
    recipe = {**manifest()["recipe"], "source": {"path": path}}  # type: ignore[dict-item]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest(recipe=recipe)))
    theirs = read_manifest(LocalFolder(tmp_path))
    with pytest.raises(UserError, match=rf"^source: {re.escape(path)} is not opened because a manifest says so"):
        recorded_source(theirs, origin="source")
    with pytest.raises(UserError, match="is not opened because a manifest says so"):
        CleanViews(theirs).canvases(UNIT, [ROW], None)


@pytest.mark.parametrize("path", ["photos/train", "/data/{0..3}.tar", "s3://bucket/photos", "gs://b/x", "file:///x"])
def test_local_paths_and_stores_in_a_manifest_are_opened(tmp_path: Path, path: str) -> None:
    recipe = {**manifest()["recipe"], "source": {"path": path}}  # type: ignore[dict-item]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest(recipe=recipe)))
    assert recorded_source(read_manifest(LocalFolder(tmp_path)), origin="source").path == path


def test_a_manifest_of_100_gb_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST).open("wb") as stream:
        stream.truncate(100 * 2**30)
    with pytest.raises(UserError, match=f"has more than {LARGEST_MANIFEST_BYTES:,} bytes"):
        read_manifest(LocalFolder(tmp_path))


@pytest.mark.parametrize("length", [LARGEST_MEMBER_BYTES + 1, 2**40, 2**63 - 1])
def test_a_member_of_many_gb_is_not_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / shard_name(UNIT)
    path.parent.mkdir()
    with path.open("wb") as stream:
        stream.truncate(2**41)
    row = {"key": "k-v0", "image_offset": 512, "image_length": length}
    with path.open("rb") as stream, pytest.raises(UserError, match="members have 0 to 268,435,456"):
        ShardReader(stream, "t").member(row, "image")
    with pytest.raises(UserError, match="members have 0 to 268,435,456"):
        ShardFiles(tmp_path).read(UNIT, 512, length)


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def test_arrays_hold_what_they_claim_and_no_code(tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    stream = io.BytesIO()
    np.save(stream, np.array([Payload(trace)], dtype=object), allow_pickle=True)
    claims = [
        stream.getvalue(),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (10000000, 10000000), }"),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (0, 10000000000000000000000), }"),
        npy("{'descr': '|V0', 'fortran_order': False, 'shape': (10000000000000000000000,), }"),
        npy("{'descr': '|b1', 'fortran_order': False, 'shape': (True,), }", b"x"),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (-1,), }", b"xx"),
        npy("{" * 60),
        npy("__import__('os').system('id')"),
        npy_bytes(np.zeros(3)) + b"more",
        b"PK\x03\x04",
    ]
    for claim in claims:
        with pytest.raises(ValueError):
            read_npy(claim)
        row = {"key": "k", "teacher_offset": 0, "teacher_length": len(claim)}
        with pytest.raises(UserError, match="t: the teacher of k is no array"):
            ShardReader(io.BytesIO(claim), "t").array(row, "teacher")
    assert not trace.exists()
    np.load(io.BytesIO(claims[0]), allow_pickle=True)
    assert trace.exists()


def test_a_stored_image_larger_than_any_canvas_is_not_decoded() -> None:
    stream = io.BytesIO()
    Image.new("1", (8200, 8200)).save(stream, "PNG")
    row = {"key": "k", "image_offset": 0, "image_length": len(stream.getvalue())}
    with pytest.raises(UserError, match=r"the image of k cannot be decoded: decompression bomb \(8200x8200\)"):
        ShardReader(stream, "t").canvas(row)


@pytest.mark.parametrize("box", [(0, 0, 2**31 - 1, 2**31 - 1), (-(2**31), 0, 2**31 - 1, 1), (5, 5, 5, 9), (9, 0, 0, 9)])
def test_a_view_box_without_bounds_is_refused(box: tuple[int, int, int, int]) -> None:
    view = View(index=3, box=box, size=4, resize="bicubic", flip=False)
    with pytest.raises(UserError, match="view 3: no canvas has the box"):
        replay(Image.new("RGB", (9, 9)), view)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"picture": [b"x"], "label": [1]}, "no column image or img; name one of picture, label in image_column"),
        ({"image": [b"x"], "class": [1]}, "no column label or labels or fine_label"),
        ({"image": [3], "label": [1]}, "column image is int64; expected binary or a struct with binary `bytes`"),
        ({"image": [{"bytes": "text"}], "label": [1]}, "expected binary or a struct"),
        ({"image": [b"x"], "label": ["cat"]}, "column label is string; expected integers"),
        ({"image": [b"x"], "label": [1.5]}, "column label is double; expected integers"),
    ],
)
def test_a_source_with_other_columns_is_told(tmp_path: Path, columns: dict[str, Any], told: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=told):
        open_source(SourceSettings(path=str(tmp_path)))


def test_half_a_character_in_the_class_names_is_no_class_name(tmp_path: Path) -> None:
    features = {"info": {"features": {"label": {"names": ["\ud800", "b"]}}}}
    table = pa.table({"image": [b"x"], "label": [1]}).replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, tmp_path / "a.parquet")
    assert open_source(SourceSettings(path=str(tmp_path))).class_names is None


HOSTILE_NAME = "[bold][red]\x1b[31m\x07class"


def test_class_names_and_reasons_cannot_write_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / HOSTILE_NAME).mkdir(parents=True)
    command = ["prepare", str(tmp_path / "in"), str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["dad", *command, "--kind=image_folder"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    told = capfd.readouterr().err
    assert r"class folder [bold][red]\x1b[31m\x07class holds no image" in told
    Image.new("RGB", (4, 4)).save(tmp_path / "in" / HOSTILE_NAME / "a.png")
    os.mkfifo(tmp_path / "in" / HOSTILE_NAME / "b.png")  # neither read, which would wait for ever, nor told
    result = CliRunner().invoke(build_app(), command)
    assert result.exit_code == 0, result.output
    assert read_manifest(LocalFolder(tmp_path / "out")).class_names == (HOSTILE_NAME,)
    with_index(tmp_path, [{**ROW, "status": "failed", "reason": f"[/red]{HOSTILE_NAME}"}])
    (tmp_path / MANIFEST).write_text(json.dumps(manifest(state="running")))
    shown = CliRunner().invoke(build_app(), ["inspect", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert r"[/red][bold][red]\x1b[31m\x07class" in shown.output
    assert HOSTILE_NAME not in shown.output
