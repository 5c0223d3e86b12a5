"""The demo's data: the split, and the Parquet files as Hugging Face and Pillow read them."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scripts import load_script

SCRIPT = Path(__file__).parents[2] / "recipes" / "demo" / "mnist.py"


@pytest.fixture(scope="module")
def mnist() -> ModuleType:
    return load_script(SCRIPT)


@pytest.fixture(scope="module")
def folder(mnist: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The splits of 5,000 made-up images that tell their own row: the first pixels are its two bytes."""
    path = tmp_path_factory.mktemp("mnist")
    rows = np.arange(5000)
    flat = np.zeros((5000, 784))
    flat[:, 0], flat[:, 1] = rows // 256, rows % 256
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist, "mnist_data", lambda: (flat, rows % 10))
        mnist.write_splits(path)
    return path


def test_every_row_once_and_every_class_alike(mnist: ModuleType) -> None:
    labels = np.repeat(np.arange(10), 500)
    split = mnist.split_rows(labels)
    assert {name: len(rows) for name, rows in split.items()} == {"train": 4000, "validation": 500, "test": 500}
    assert sorted(np.concatenate(list(split.values()))) == list(range(5000))
    for rows in split.values():
        counts = np.bincount(labels[rows], minlength=10)
        assert counts.min() == counts.max()
        assert (np.diff(labels[rows]) != 0).any()
    again = mnist.split_rows(labels)
    assert all(np.array_equal(again[name], split[name]) for name in split)


def test_hugging_face_reads_images_and_class_names(mnist: ModuleType, folder: Path, tmp_path: Path) -> None:
    files = {split: str(folder / f"{split}-00000-of-00001.parquet") for split in mnist.SPLITS}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
    assert loaded["test"].features["label"].names == list(mnist.CLASS_NAMES)
    for row in loaded["test"].select(range(20)):
        canvas = np.asarray(row["image"])
        assert canvas.shape == (28, 28, 3)
        assert (canvas == canvas[..., :1]).all()
        assert (256 * int(canvas[0, 0, 0]) + int(canvas[0, 1, 0])) % 10 == row["label"]


def test_equal_bytes_each_time_and_the_path_names_the_row(mnist: ModuleType, folder: Path, tmp_path: Path) -> None:
    table = pq.read_table(folder / "train-00000-of-00001.parquet")
    cell = table["image"][7].as_py()
    canvas = np.asarray(Image.open(io.BytesIO(cell["bytes"])))
    assert cell["path"] == f"mnist-{256 * int(canvas[0, 0, 0]) + int(canvas[0, 1, 0]):04d}.png"
    assert mnist.png(canvas[..., 0]) == cell["bytes"]
