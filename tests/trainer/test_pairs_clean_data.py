"""Where the clean half of a pair may come from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import webdataset
from pairs_by_hand import (
    MakeSet,
    batches,
    forget_source,
    keys_of,
    replayed,
    rows_of,
)
from tiny_run import run_recipe, tiny_recipe, write_images, write_quantizer

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.preparing import prepare_shards
from dad_datasets.sources import SourceSettings
from dad_trainer.reading import open_pairs


@pytest.mark.parametrize("kind", ["image_folder", "prepared"])
def test_clean_data_may_have_moved(make_set: MakeSet, other_images: Path, tmp_path: Path, kind: str) -> None:
    clean = str(other_images)
    if kind == "prepared":
        prepare_shards(SourceSettings(path=clean), LocalFolder(tmp_path / "prepared"), samples_per_shard=10)
        clean = str(tmp_path / "prepared")
    pairs, moved = open_pairs(make_set("full")), open_pairs(make_set("full"), clean=clean)
    for place in range(len(pairs)):
        np.testing.assert_array_equal(pairs.read(place).clean, moved.read(place).clean)


def write_tar(path: Path, images: list[tuple[bytes, int]]) -> None:
    with webdataset.TarWriter(str(path)) as tar:
        for number, (content, label) in enumerate(images):
            tar.write({"__key__": f"{number:06d}", "png": content, "cls": label})


def write_parquet(path: Path, images: list[tuple[bytes, int]]) -> None:
    cells = [{"bytes": content, "path": None} for content, _ in images]
    pq.write_table(pa.table({"image": cells, "label": [label for _, label in images]}), path, row_group_size=5)


@pytest.mark.parametrize(("name", "write"), [("train.tar", write_tar), ("train.parquet", write_parquet)])
def test_clean_data_may_be_one_file(
    tmp_path: Path, name: str, write: Callable[[Path, list[tuple[bytes, int]]], None]
) -> None:
    files = sorted(write_images(tmp_path / "tiny").rglob("*.png"))
    images = [(file.read_bytes(), int(file.parent.name[-1])) for file in files]
    write(tmp_path / name, images)
    path = tmp_path / "set"
    complete, screen = run_recipe(tiny_recipe(tmp_path / name, write_quantizer(tmp_path / "quantizer")), path)
    assert complete, screen
    pairs, rows = open_pairs(path), rows_of(path)
    assert sorted(keys_of(pairs)) == sorted(rows)
    assert len(pairs) == 48
    by_key = tmp_path / "by_key"
    (by_key / "train").mkdir(parents=True)
    for number, (content, _) in enumerate(images):
        (by_key / f"train/{number:06d}").write_bytes(content)
    for place in range(len(pairs)):
        pair = pairs.read(place)
        assert pair.label == images[int(pair.source_key.removeprefix("train/"))][1]
        np.testing.assert_array_equal(pair.clean, replayed(by_key, rows[pair.key]))
    for here, there in zip(batches(pairs, 0), batches(pairs, 2), strict=True):
        assert torch.equal(here["clean"], there["clean"])

    write(tmp_path / name, images[:-2])
    with pytest.raises(UserError, match=r"holds no usable image train/00002[23], train/00002[23], of 24 "):
        open_pairs(path)
    assert open_pairs(path, max_missing=0.1).counts.missing == 4


def test_shards_with_clean_canvases_need_no_source(make_set: MakeSet, tmp_path: Path) -> None:
    path = Path(shutil.copytree(make_set("clean"), tmp_path / "set"))
    forget_source(path)
    pairs = open_pairs(path, where="status == 'ok'")
    assert len(pairs) == 48
    assert pairs.read(0).clean is not None
    with pytest.raises(UserError, match=r"the clean images that it was made from cannot be opened: name them with"):
        open_pairs(path)  # clean-only views have no members


def test_named_clean_data_goes_before_stored_canvases(make_set: MakeSet, other_images: Path) -> None:
    stored, named = open_pairs(make_set("clean")), open_pairs(make_set("clean"), clean=str(other_images))
    np.testing.assert_array_equal(stored.read(0).clean, named.read(0).clean)
    shutil.rmtree(other_images)
    with pytest.raises(UserError, match="holds no usable image"):
        named.read(0)


def test_a_remote_dataset_is_read_as_a_local_one(make_set: MakeSet, tmp_path: Path) -> None:
    remote = fsspec.filesystem("memory")
    remote.put(f"{make_set('full')}/", "/remote-pairs/", recursive=True)
    local, pairs = open_pairs(make_set("full")), open_pairs("memory://remote-pairs", cache=tmp_path / "cache")
    assert keys_of(pairs) == keys_of(local)
    for place in (0, 40, 71):
        here, there = local[place], pairs[place]
        assert here.keys() == there.keys()
        assert all(np.array_equal(value, there[name]) for name, value in here.items())
    assert any((tmp_path / "cache").iterdir())
    remote.rm("/remote-pairs/shards/tiny-00001.tar")
    with pytest.raises(UserError, match=r"memory://remote-pairs/shards/tiny-00001\.tar: the shard is missing"):
        open_pairs("memory://remote-pairs", cache=tmp_path / "cache")


def test_clean_images_that_are_not_wanted_need_no_source(copied: Path) -> None:
    forget_source(copied)
    pairs = open_pairs(copied, clean_images=False)
    assert len(pairs) == 48
    assert pairs.read(0, clean=False).adversarial is not None
    with pytest.raises(UserError, match="was opened without its clean images"):
        pairs.read(0)
    with pytest.raises(UserError, match="clean_images, adversarial_images: both are False"):
        open_pairs(copied, clean_images=False, adversarial_images=False)
