"""The tiny run's inputs, made once, and a recipe that each test may change."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import RawRecipe, tiny_recipe, write_images, write_quantizer


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("clean") / "tiny")


@pytest.fixture(scope="session")
def quantizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_quantizer(tmp_path_factory.mktemp("quantizer"))


@pytest.fixture
def recipe(images: Path, quantizer_folder: Path) -> RawRecipe:
    return tiny_recipe(images, quantizer_folder)
