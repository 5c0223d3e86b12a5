"""Parquet files as Hugging Face `datasets` writes them, and as people write them by hand."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from unittest import mock

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dad_datasets.errors import UserError
from dad_datasets.sources import CleanSample, CleanSource, SourceSettings, open_source

NAMES = ["ant", "bee", "cat"]
JPEG = b"\xff\xd8\xff"


def png_of(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((2, 2, 3), number, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_table(path: Path, num_rows: int = 20, *, group: int = 6, **columns: pa.Array) -> Path:
    """`label` = 3 * row, `image` bytes that say the row; `columns` replace these."""
    path.parent.mkdir(exist_ok=True)
    images = [{"bytes": JPEG + b"%d" % row, "path": None} for row in range(num_rows)]
    defaults = {
        "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "label": pa.array([3 * row for row in range(num_rows)]),
        "other": pa.array(["x"] * num_rows),
    }
    pq.write_table(pa.table({**defaults, **columns}), path, row_group_size=group)
    return path


def open_parquet(path: Path | str, **fields: str) -> CleanSource:
    return open_source(SourceSettings.model_validate({"path": str(path), **fields}))


def read_all(source: CleanSource, samples_per_shard: int = 4) -> list[CleanSample]:
    return [sample for unit in source.plan(samples_per_shard) for sample in source.read(unit)]


def test_reads_what_hugging_face_writes(tmp_path: Path) -> None:
    features = datasets.Features({"img": datasets.Image(), "fine_label": datasets.ClassLabel(names=NAMES)})
    rows = {"img": [{"bytes": png_of(row), "path": None} for row in range(7)], "fine_label": [0, 1, 2, 0, 1, 2, 0]}
    table = datasets.Dataset.from_dict(rows, features=features)
    table.to_parquet(str(tmp_path / "train-00000-of-00001.parquet"), batch_size=3)
    source = open_parquet(tmp_path)
    assert source.class_names == tuple(NAMES)
    samples = read_all(source)
    assert [sample.image for sample in samples] == [png_of(row) for row in range(7)]
    assert [sample.label for sample in samples] == rows["fine_label"]
    assert samples[5].source_key == "train-00000-of-00001/000005"
    assert source.label_range() == (0, 2)


@pytest.mark.parametrize("binary", [pa.binary(), pa.large_binary()])
def test_named_columns_and_plain_bytes(tmp_path: Path, binary: pa.DataType) -> None:
    path = write_table(tmp_path / "a.parquet", jpg=pa.array([JPEG + b"%d" % (2 * row) for row in range(20)], binary))
    source = open_parquet(path, image_column="jpg", label_column="label")
    assert [sample.image for sample in read_all(source)] == [JPEG + b"%d" % (2 * row) for row in range(20)]
    assert source.class_names is None


def test_a_unit_reads_only_its_row_groups(tmp_path: Path) -> None:
    source = open_parquet(write_table(tmp_path / "a.parquet"))
    unit = list(source.plan(5))[2]  # rows 10 to 14: of the groups of 6 rows, the second and the third
    iter_batches = pq.ParquetFile.iter_batches
    touched: list[object] = []

    def spy(self: pq.ParquetFile, **options: object) -> object:
        assert options["columns"] == ["image", "label"]
        touched.append(options["row_groups"])
        return iter_batches(self, **options)

    with mock.patch.object(pq.ParquetFile, "iter_batches", spy):
        assert [sample.label for sample in source.read(unit)] == [30, 33, 36, 39, 42]
    assert touched == [[1], [2]]


def test_bad_rows_have_a_problem(tmp_path: Path) -> None:
    images = [
        {"bytes": JPEG, "path": "a.jpg"},
        {"bytes": None, "path": "b.jpg"},
        {"bytes": b"", "path": "c.jpg"},
        None,
        {"bytes": JPEG, "path": None},
        {"bytes": JPEG, "path": None},
        {"bytes": JPEG, "path": None},
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    labels = pa.array([1, 2, 3, 4, None, -1, 2**31])
    path = write_table(tmp_path / "a.parquet", 7, image=pa.array(images, kind), label=labels)
    samples = read_all(open_parquet(path))
    assert [(sample.label, sample.problem) for sample in samples] == [
        (1, ""),
        (2, "image bytes missing, only a path is given"),
        (3, "image is empty"),
        (4, "image bytes missing"),
        (-1, "label missing"),
        (-1, "label is negative"),
        (-1, "label does not fit 31 bits"),
    ]
    assert open_parquet(path).label_range() == (-1, 2**31)


def test_label_range_is_unknown_without_statistics(tmp_path: Path) -> None:
    table = pq.read_table(write_table(tmp_path / "a.parquet"))
    assert open_parquet(tmp_path / "a.parquet").label_range() == (0, 57)
    pq.write_table(table, tmp_path / "a.parquet", write_statistics=False)
    assert open_parquet(tmp_path / "a.parquet").label_range() is None


@pytest.mark.parametrize(
    ("fields", "columns", "message"),
    [
        ({"image_column": "pic"}, {}, "no column pic; name one of image, label, other in image_column"),
        ({"label_column": "other"}, {}, "column other is string; expected integers"),
        ({"image_column": "other"}, {}, "column other is string; expected binary"),
        ({}, {"label": pa.array([0.5] * 20)}, "column label is double; expected integers"),
    ],
)
def test_wrong_columns_are_named(
    tmp_path: Path, fields: dict[str, str], columns: dict[str, pa.Array], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        open_parquet(write_table(tmp_path / "a.parquet", **columns), **fields)


def test_a_later_file_of_another_layout_is_named(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet")
    table = pq.read_table(write_table(tmp_path / "b.parquet"))
    pq.write_table(table.rename_columns(["image", "class", "other"]), tmp_path / "b.parquet")
    source = open_parquet(tmp_path)
    with pytest.raises(UserError, match=r"b\.parquet: no column label, which the first file has"):
        source.label_range()
    with pytest.raises(UserError, match=r"b\.parquet: no column label"):
        read_all(source)


def test_damaged_and_empty_files_are_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"a\.parquet: not a readable Parquet file"):
        open_parquet(path)
    with pytest.raises(UserError, match="hold no row"):
        open_parquet(write_table(tmp_path / "a.parquet", 0))


def test_a_file_that_changed_is_noticed(tmp_path: Path) -> None:
    source = open_parquet(write_table(tmp_path / "a.parquet"))
    last = list(source.plan(8))[-1]
    sent = pickle.dumps(source)
    assert [sample.label for sample in pickle.loads(sent).read(last)] == [48, 51, 54, 57]
    write_table(tmp_path / "a.parquet", 10)
    with pytest.raises(UserError, match="changed since the run was planned"):
        list(pickle.loads(sent).read(last))
