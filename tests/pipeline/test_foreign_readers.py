"""The shards as other people's programs read them: webdataset, Hugging Face datasets, timm, Ray Data, pyarrow."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.dataset
import pytest
import webdataset
from PIL import Image
from timm.data import create_dataset
from tiny_run import NUM_IMAGES, run_recipe, tiny_recipe

from dad_datasets.folder import open_folder
from dad_datasets.index import read_index
from dad_datasets.record import pixels_sha256

VIEWS = 2 * (NUM_IMAGES - 1)
"""Two of each image, but for one that cannot be decoded and is in the index alone."""


@pytest.fixture(scope="module")
def dataset(images: Path, quantizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("readers")
    own = shutil.copytree(images, root / "tiny")
    (own / "class1/0.png").write_bytes(b"no image")
    run_recipe(tiny_recipe(own, quantizer_folder) | {"max_failure_rate": 0.1}, root / "out")
    return root / "out"


@pytest.fixture(scope="module")
def expected(dataset: Path) -> dict[str, dict[str, Any]]:
    """The index rows of the records by key."""
    units = sorted(path.stem for path in (dataset / "index").glob("*.parquet"))
    rows = [row for unit in units for row in read_index(open_folder(dataset), unit).to_pylist()]
    return {row["key"]: row for row in rows if row["status"] == "ok"}


def sha256_of(image: Image.Image) -> bytes:
    return pixels_sha256(np.asarray(image.convert("RGB")))


def test_webdataset(dataset: Path, expected: dict[str, dict[str, Any]]) -> None:
    shards = sorted(str(path) for path in dataset.glob("shards/*.tar"))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    assert {sample["__key__"] for sample in samples} == expected.keys()
    for sample in samples:
        row = expected[sample["__key__"]]
        assert int(sample["cls"]) == row["label"]
        assert sha256_of(Image.open(io.BytesIO(sample["webp"]))) == row["image_sha256"]
        assert np.load(io.BytesIO(sample["teacher.npy"]), allow_pickle=False).shape == (2, 3)
        assert json.loads(sample["json"])["source_key"] == row["source_key"]


def test_hugging_face_datasets_load_the_folder(
    dataset: Path, expected: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    loaded = datasets.load_dataset(str(dataset), split="train", cache_dir=str(tmp_path))
    assert len(loaded) == VIEWS
    for sample in loaded:
        row = expected[sample["__key__"]]
        assert sample["cls"] == row["label"]
        assert sha256_of(sample["webp"]) == row["image_sha256"]


def test_timm(dataset: Path, expected: dict[str, dict[str, Any]]) -> None:
    loaded = create_dataset("wds/", root=str(dataset), split="train", is_training=False, batch_size=1)
    assert len(loaded) == VIEWS
    pairs = [(sha256_of(image), label) for image, label in loaded]
    assert sorted(pairs) == sorted((row["image_sha256"], row["label"]) for row in expected.values())


def test_ray_data_leaves_the_image_as_bytes(dataset: Path, expected: dict[str, dict[str, Any]]) -> None:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        paths = [str(path) for path in sorted(dataset.glob("shards/*.tar"))]
        samples = ray.data.read_webdataset(paths, decoder=None).take_all()
    finally:
        ray.shutdown()
    assert {sample["__key__"] for sample in samples} == expected.keys()
    for sample in samples:
        row = expected[sample["__key__"]]
        assert sha256_of(Image.open(io.BytesIO(sample["webp"]))) == row["image_sha256"]


def test_pyarrow_reads_the_indexes_as_one_table(dataset: Path, expected: dict[str, dict[str, Any]]) -> None:
    indexes = pyarrow.dataset.dataset(dataset / "index", format="parquet")
    table = indexes.to_table(columns=["key", "label"], filter=pyarrow.dataset.field("status") == "ok")
    assert dict(zip(*table.to_pydict().values(), strict=True)) == {key: row["label"] for key, row in expected.items()}


def test_no_member_needs_pickle(dataset: Path) -> None:
    for path in dataset.glob("shards/*.tar"):
        for sample in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False):
            assert not any(name.endswith((".pyd", ".pkl", ".pickle", ".pth")) for name in sample)
