"""Where a training run may be: not over another program's files, and not among what it reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_run import write_images
from tiny_training import RawRecipe, train, training_recipe

from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.manifest import read_manifest


@pytest.fixture(scope="module")
def raw(make_set: Callable[[str], Path]) -> RawRecipe:
    return training_recipe(make_set("full"))


def test_a_checkpoint_of_another_program_is_left_alone(raw: RawRecipe, tmp_path: Path) -> None:
    torch.save({"step": 3, "origin": {}}, tmp_path / "last.pt")  # as of dad train-quantizer
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(UserError, match=r"last\.pt is another program's, no checkpoint of dad train: choose another"):
        train(raw, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_run_is_not_written_among_what_it_reads(raw: RawRecipe, tmp_path: Path) -> None:
    shards = shutil.copytree(raw["shards"][0]["path"], tmp_path / "shards")
    images = write_images(tmp_path / "images")
    reading = {**raw, "shards": [{"path": str(shards)}], "validation": {"source": {"path": str(images)}}}
    clean = Path(read_manifest(open_folder(shards)).recipe["source"]["path"])
    for inside in (shards, shards / "student", images / "student", clean / "student"):
        with pytest.raises(UserError, match=r"is (inside )?the source .*: choose one outside"):
            train(reading, inside)
        assert not (inside / "args.yaml").exists()
        assert not (inside / "tensorboard").exists()
