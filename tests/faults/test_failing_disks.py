"""Disks that fill up or fail, encoders that raise: nothing half-written stays, and the same command goes on."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_run import RawRecipe, dataset_bytes, run_recipe, tiny_recipe, write_images, write_quantizer

from dad_datasets.errors import UserError
from dad_datasets.sources import CleanSample, WorkUnit
from dad_datasets.sources.image_folder import ImageFolder
from dad_pipeline import shard_generation
from dad_pipeline.recipe import Recipe
from dad_pipeline.stored_views import EncodedView, encode_view


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> RawRecipe:
    images = write_images(tmp_path_factory.mktemp("clean") / "tiny")
    return tiny_recipe(images, write_quantizer(tmp_path_factory.mktemp("quantizer")))


@pytest.fixture(scope="module")
def undisturbed(recipe: RawRecipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run_recipe(recipe, folder)[0]
    return dataset_bytes(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted filesystem with room for one or two of the three units."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small filesystem needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_run_and_with_more_room_it_goes_on(
    recipe: RawRecipe, undisturbed: dict[str, bytes], small_disk: Path
) -> None:
    out = small_disk / "out"
    with pytest.raises(UserError, match=rf"^{out} cannot be written any more: No space left on device$"):
        run_recipe(recipe, out)
    left = dataset_bytes(out)
    finished = sum(name.startswith("index/") for name in left)
    assert 1 <= finished < 3
    assert not [name for name in left if ".tmp-" in name or name == ".lease"]
    assert all(left[name] == undisturbed[name] for name in left if name != "manifest.json")
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    complete, screen = run_recipe(recipe, out)
    assert complete
    assert f"{finished} units are finished already" in screen
    assert dataset_bytes(out) == undisturbed


def test_a_read_error_in_the_middle_of_a_shard_is_tried_again(
    recipe: RawRecipe, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ImageFolder.read
    failed: list[int] = []

    def fails_once(self: ImageFolder, unit: WorkUnit) -> Iterator[CleanSample]:
        for number, sample in enumerate(read(self, unit)):
            if unit.name == "tiny-00001" and number == 5 and not failed:
                failed.append(number)
                raise OSError(errno.EIO, "Input/output error")
            yield sample

    monkeypatch.setattr(ImageFolder, "read", fails_once)
    assert run_recipe(recipe | {"check": {"samples": 0}}, tmp_path)[0]
    assert failed
    made = dataset_bytes(tmp_path)
    assert all(made[name] == undisturbed[name] for name in made if name.startswith(("shards/", "index/")))


def test_an_encoder_that_raises_once_costs_a_try_and_one_that_always_does_the_unit(
    recipe: RawRecipe, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 0

    def fails(result: object, settings: Recipe) -> EncodedView:
        nonlocal failures
        encoded = encode_view(result, settings)  # type: ignore[arg-type]
        if encoded.row["source_key"] == broken and failures < limit:
            failures += 1
            raise RuntimeError("encoder out of order")
        return encoded

    monkeypatch.setattr(shard_generation, "encode_view", fails)
    broken, limit = "class0/0.png", 1
    assert run_recipe(recipe, tmp_path / "once")[0]
    assert failures == 1
    assert dataset_bytes(tmp_path / "once") == undisturbed
    failures, limit = 0, 1000
    complete, screen = run_recipe(recipe, tmp_path / "always")
    assert not complete
    assert "was not made: RuntimeError: encoder out of order; tried 3 times" in screen
    assert not list((tmp_path / "always").rglob(".tmp-*"))
    assert len(list((tmp_path / "always/index").iterdir())) == 2
