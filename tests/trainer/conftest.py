"""Tiny datasets in every form of storing, each made once by the real pipeline."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_run import run_recipe, tiny_recipe, write_images, write_quantizer

STORES: dict[str, dict[str, Any]] = {
    "full": {},
    "top_k": {"logits": {"top_k": 2, "temperatures": [1.0, 4.0]}},
    "clean": {"clean": True},
    "codes": {"image": "none"},
}

MakeSet = Callable[[str], Path]


@pytest.fixture(scope="session")
def clean_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images in three classes, and one that cannot be decoded."""
    root = write_images(tmp_path_factory.mktemp("clean") / "tiny")
    (root / "class1" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="session")
def make_set(clean_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeSet:
    """The dataset with one of STORES: two attacked views of each image and a clean-only one, in units of ten images."""
    quantizer = write_quantizer(tmp_path_factory.mktemp("quantizer"))
    made: dict[str, Path] = {}

    def make(store: str) -> Path:
        if store not in made:
            recipe = tiny_recipe(clean_folder, quantizer)
            recipe["views"]["draw"] += [{"kind": "pad_crop", "attack": False}]
            recipe |= {"store": STORES[store], "max_failure_rate": 0.5}
            made[store] = tmp_path_factory.mktemp(store) / "set"
            complete, screen = run_recipe(recipe, made[store])
            assert complete, screen
        return made[store]

    return make


@pytest.fixture
def copied(make_set: MakeSet, tmp_path: Path) -> Path:
    """The full set, to be damaged."""
    return Path(shutil.copytree(make_set("full"), tmp_path / "set"))


@pytest.fixture
def other_images(clean_folder: Path, tmp_path: Path) -> Path:
    """A copy of the clean data, to be changed."""
    return Path(shutil.copytree(clean_folder, tmp_path / "tiny"))
