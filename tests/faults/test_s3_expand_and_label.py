"""`dad expand` and `dad label` from and to S3 under faults: the bytes that they leave on a local disk."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from faulty_s3 import FaultyS3, seeded_faults, stored, uploads_left
from rich.console import Console
from s3fs import S3FileSystem
from tiny_labels import label, label_recipe
from tiny_run import RawRecipe, dataset_bytes, run_recipe, tiny_recipe, write_images, write_quantizer

from dad_datasets.folder import open_folder
from dad_datasets.layout import LEASE
from dad_datasets.manifest import read_manifest
from dad_datasets.reporting.labels_section import gather_labels
from dad_datasets.verification import problems
from dad_pipeline.expansion.expansion_run import expand_dataset

PHOTOS, CODES, IMAGES = "s3://bucket/photos/tiny", "s3://bucket/codes", "s3://bucket/images"


@pytest.fixture(scope="module")
def local(server: FaultyS3, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of codes and the expanded one on a local disk, made from PHOTOS; the codes at CODES as well."""
    base = tmp_path_factory.mktemp("local")
    S3FileSystem().put(str(write_images(base / "tiny")), PHOTOS, recursive=True)
    complete, screen = run_recipe(raw_recipe(base) | {"store": {"image": "none"}}, base / "codes")
    assert complete, screen
    expand(str(base / "codes"), str(base / "images"))
    S3FileSystem().put(str(base / "codes"), CODES, recursive=True)
    return base


def raw_recipe(base: Path) -> RawRecipe:
    quantizer = base / "quantizer"
    return tiny_recipe(base / "tiny", quantizer if quantizer.exists() else write_quantizer(quantizer)) | {
        "source": {"path": PHOTOS}
    }


def expand(codes: str, out: str) -> str:
    screen = io.StringIO()
    expand_dataset(codes, out, console=Console(file=screen, width=200), device="cpu", check=2)
    return screen.getvalue()


def test_expanding_from_and_to_s3(s3: FaultyS3, local: Path) -> None:
    s3.plan = seeded_faults(0, 0.15)
    screen = expand(CODES, IMAGES)
    assert len(s3.faults) >= 3
    assert "48 of 48" in screen
    assert stored(IMAGES) == dataset_bytes(local / "images")
    assert LEASE not in stored(IMAGES)
    assert "3 units are finished already" in expand(CODES, IMAGES)
    assert stored(IMAGES) == dataset_bytes(local / "images")
    assert uploads_left() == 0
    s3.behave()
    folder = open_folder(IMAGES)
    assert list(problems(folder, read_manifest(folder))) == []


def test_labelling_a_set_on_s3(s3: FaultyS3, local: Path, tmp_path: Path) -> None:
    S3FileSystem().put(str(local / "images"), "s3://bucket/set", recursive=True)
    copy = Path(shutil.copytree(local / "images", tmp_path / "set"))
    recipe = label_recipe(raw_recipe(local))
    label(copy, recipe)
    s3.plan = seeded_faults(1, 0.15)
    screen = label("s3://bucket/set", recipe)
    assert len(s3.faults) >= 3
    assert "failed views" in screen
    expected = without_runs(dataset_bytes(copy))
    assert "labels/other/shards.parquet" in expected
    assert without_runs(stored("s3://bucket/set")) == expected
    assert "3 units are finished already" in label("s3://bucket/set", recipe)
    assert uploads_left() == 0
    s3.behave()
    folder = open_folder("s3://bucket/set")
    (reported,) = gather_labels(folder, read_manifest(folder))
    assert (reported.name, reported.problem) == ("other", "")


def without_runs(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without the hosts and times of labelling runs."""
    return {name: content for name, content in files.items() if "/runs/" not in name}
