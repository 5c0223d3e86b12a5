"""Pairs that are not what they should be: other images, other classes, damaged shards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pairs_by_hand import (
    MakeSet,
    batches,
    change_manifest,
    rows_of,
    stored_in,
)
from PIL import Image
from stored_records import npy

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder, open_folder
from dad_datasets.index import read_index
from dad_datasets.preparing import prepare_shards
from dad_datasets.sources import SourceSettings
from dad_trainer.reading import open_pairs


def test_images_of_other_pixels_are_refused_when_opening(make_set: MakeSet, other_images: Path) -> None:
    for path in other_images.rglob("[0-9].png"):
        Image.fromarray(np.asarray(Image.open(path)) ^ 1).save(path)
    with pytest.raises(UserError, match="has other pixels than those that were attacked"):
        open_pairs(make_set("full"), clean=str(other_images))
    assert open_pairs(make_set("full"), clean=str(other_images), checked=0).read(0).clean is not None


def test_the_first_views_of_each_process_are_checked(make_set: MakeSet, other_images: Path) -> None:
    pairs = open_pairs(make_set("full"), clean=str(other_images), checked=2)
    for path in other_images.rglob("[0-9].png"):
        Image.fromarray(np.asarray(Image.open(path)) ^ 1).save(path)
    for place in (5, 6):
        pairs.read(place)  # the two of this process were looked at when it was opened
    with pytest.raises(UserError, match="has other pixels than those that were attacked"):
        next(batches(pairs, 1))


def test_missing_images_are_named_refused_or_left_out(make_set: MakeSet, other_images: Path) -> None:
    gone = ["class0/3.png", "class2/7.png"]
    for key in gone:
        (other_images / key).unlink()
    clean = str(other_images)
    with pytest.raises(UserError, match=r"holds no usable image class\d/\d\.png, class\d/\d\.png, of 24 "):
        open_pairs(make_set("full"), clean=clean)
    with pytest.raises(UserError, match=r"at most a share of max_missing = 0\.05 may be missing"):
        open_pairs(make_set("full"), clean=clean, max_missing=0.05)
    pairs = open_pairs(make_set("full"), clean=clean, max_missing=0.1)
    assert (pairs.counts.missing, len(pairs)) == (6, 66)
    assert sorted(set(pairs.samples.tolist())) == list(range(22))
    assert not {pairs.read(place).source_key for place in range(len(pairs))} & set(gone)
    with pytest.raises(UserError, match="max_missing = 2: a share from 0 to 1"):
        open_pairs(make_set("full"), max_missing=2)


def test_an_image_that_vanishes_later_is_named(make_set: MakeSet, other_images: Path) -> None:
    pairs = open_pairs(make_set("full"), clean=str(other_images))
    path = other_images / pairs.read(0, clean=False).source_key
    path.unlink()
    with pytest.raises(UserError, match=f"holds no usable image {path.parent.name}/{path.name}"):
        pairs.read(0)
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match=f"{path.parent.name}/{path.name} cannot be decoded: not an image"):
        pairs.read(0)


def test_other_classes_are_refused(make_set: MakeSet, copied: Path, other_images: Path) -> None:
    (other_images / "class1").rename(other_images / "class10")
    with pytest.raises(UserError, match="class 1 is 'class10', but 'class1' in the shards"):
        open_pairs(make_set("full"), clean=str(other_images))
    change_manifest(copied, class_names=["a", "b", "c"])  # names from the recipe need not be the source's
    with pytest.raises(UserError, match="holds no usable image class1"):
        open_pairs(copied, clean=str(other_images))
    shutil.copytree(other_images / "class2", other_images / "class3")
    with pytest.raises(UserError, match="has 4 classes, the shards were made with 3"):
        open_pairs(make_set("full"), clean=str(other_images))


def test_prepared_data_with_other_images_is_refused(clean_folder: Path, make_set: MakeSet, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(make_set("full"), tmp_path / "set"))
    data = Path(shutil.copytree(clean_folder, tmp_path / "tiny"))
    (data / "class1/broken.png").rename(data / "class1/whole.png")
    Image.new("RGB", (20, 18)).save(data / "class1/whole.png")
    prepare_shards(SourceSettings(path=str(data)), LocalFolder(tmp_path / "prepared"), samples_per_shard=10)
    # As if no view had failed: otherwise the hashes may differ although the data is the same.
    for index in whole.glob("index/*"):
        table = pq.read_table(index)
        kept = read_index(open_folder(whole), index.stem)["status"].to_numpy() != "failed"
        metadata = json.loads(table.schema.metadata[b"dad"]) | {"rows": int(kept.sum()), "failed": 0}
        table = table.filter(kept).replace_schema_metadata({b"dad": json.dumps(metadata)})
        pq.write_table(table, index)
    summaries = pq.read_table(whole / "shards.parquet").to_pylist()
    changed = [row | {"rows": row["rows"] - row["failed"], "failed": 0} for row in summaries]
    pq.write_table(pq.read_table(whole / "shards.parquet").from_pylist(changed), whole / "shards.parquet")
    with pytest.raises(UserError, match="its images or their order are not those that the shards were made from"):
        open_pairs(whole, clean=str(tmp_path / "prepared"))


def test_clean_shards_and_unfinished_sets_are_refused(copied: Path, clean_folder: Path, tmp_path: Path) -> None:
    prepare_shards(SourceSettings(path=str(clean_folder)), LocalFolder(tmp_path / "prepared"), samples_per_shard=10)
    with pytest.raises(UserError, match=r"prepared: holds clean images alone; expected a dataset of `dad generate`"):
        open_pairs(tmp_path / "prepared")
    change_manifest(copied, state="running")
    with pytest.raises(UserError, match="is not finished; run `dad generate` again"):
        open_pairs(copied)
    assert len(open_pairs(copied, allow_unfinished=True)) == 72
    with pytest.raises(UserError, match=r"is not a dataset: it has no manifest\.json"):
        open_pairs(tmp_path)


def test_damaged_members_are_named(copied: Path) -> None:
    pairs = open_pairs(copied)
    key = pairs.read(0).key
    row = rows_of(copied)[key]
    tar = copied / "shards/tiny-00000.tar"
    content = bytearray(tar.read_bytes())
    for member in ("image", "teacher"):
        start, length = row[f"{member}_offset"], row[f"{member}_length"]
        content[start : start + length] = b"x" * length
    tar.write_bytes(content)
    pairs = open_pairs(copied)
    with pytest.raises(UserError, match=rf"tiny-00000\.tar: the image of {key} cannot be decoded: not an image"):
        pairs.read(0, teacher=False)
    with pytest.raises(UserError, match=rf"tiny-00000\.tar: the teacher of {key} is not the array that was written"):
        pairs.read(0, adversarial=False)


def test_arrays_of_another_shape_are_refused_and_other_headers_read(copied: Path) -> None:
    pairs = open_pairs(copied)
    key = pairs.read(0).key
    row = rows_of(copied)[key]
    tar = copied / "shards/tiny-00000.tar"
    content = tar.read_bytes()
    start, length = row["teacher_offset"], row["teacher_length"]
    stored = {key: npy(members["teacher.npy"]) for key, members in stored_in(copied).items()}
    padded = (
        b"\x93NUMPY\x01\x00\x76\x00" + b"{'shape': (2, 3), 'fortran_order': False, 'descr': '<f2'}".ljust(117) + b"\n"
    )
    tar.write_bytes(content[:start] + padded + stored[key].tobytes() + content[start + length :])
    assert tar.stat().st_size == len(content)
    for pair in open_pairs(copied).read_many(np.flatnonzero(pairs.attacked)[:3].tolist()):
        assert pair.teacher_clean is not None
        assert pair.teacher_adversarial is not None
        read = [pair.teacher_clean.values, pair.teacher_adversarial.values]
        np.testing.assert_array_equal(read, stored[pair.key])
    other = padded.replace(b"(2, 3)", b"(3, 2)")
    tar.write_bytes(content[:start] + other + stored[key].tobytes() + content[start + length :])
    with pytest.raises(UserError, match=rf"{key} is not the array that was written: float16 \(3, 2\) instead"):
        open_pairs(copied).read_many([2, 1, 0])


def test_a_shard_that_vanishes_later_is_named(copied: Path) -> None:
    pairs = open_pairs(copied)
    (copied / "shards/tiny-00000.tar").unlink()
    with pytest.raises(UserError, match=r"shards/tiny-00000\.tar: the shard is missing"):
        pairs.read(0)


def test_the_example_loop_runs(make_set: MakeSet) -> None:
    script = Path(__file__).parents[2] / "recipes" / "own_loop.py"
    command = [sys.executable, str(script), str(make_set("full"))]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    losses = [float(line.split()[-1]) for line in ended.stdout.splitlines()]
    assert len(losses) == 2, "72 records in batches of 64"
    assert all(0 < loss < 10 for loss in losses)
