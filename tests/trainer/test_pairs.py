"""Pairs of real datasets against the tars as webdataset reads them, the images as Pillow does; and what is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import webdataset
from PIL import Image
from tiny_run import run_recipe, tiny_recipe, write_images, write_quantizer
from torch.utils.data import DataLoader

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder, open_folder
from dad_datasets.index import read_index
from dad_datasets.manifest import read_manifest, write_manifest
from dad_datasets.preparing import prepare_shards
from dad_datasets.sources import SourceSettings
from dad_trainer.reading import Pairs, open_pairs

MakeSet = Callable[[str], Path]
Stored = dict[str, dict[str, Any]]

SIZE, CLASSES = 16, 3


def stored_in(path: Path) -> Stored:
    """The members of all records by key, as webdataset groups them; and the tar that each is in."""
    tars = sorted(str(tar) for tar in path.glob("shards/*.tar"))
    return {sample["__key__"]: sample for sample in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False)}


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """The index rows that are records, by key."""
    rows = [row for index in sorted(path.glob("index/*")) for row in pq.read_table(index).to_pylist()]
    return {row["key"]: row for row in rows if row["status"] != "failed"}


def picture(content: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def npy(content: bytes) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def replayed(root: Path, row: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """A row's clean view by Pillow alone."""
    image = Image.open(root / row["source_key"]).convert("RGB")
    box = tuple(row[f"box_{side}"] for side in ("left", "top", "right", "bottom"))
    canvas = image.crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if row["flip"] else canvas)


def keys_of(pairs: Pairs) -> list[str]:
    return [pairs.read(place, clean=False, adversarial=False, teacher=False).key for place in range(len(pairs))]


@pytest.fixture
def copied(make_set: MakeSet, tmp_path: Path) -> Path:
    """The full set, to be damaged."""
    return Path(shutil.copytree(make_set("full"), tmp_path / "set"))


@pytest.fixture
def other_images(clean_folder: Path, tmp_path: Path) -> Path:
    """A copy of the clean data, to be changed."""
    return Path(shutil.copytree(clean_folder, tmp_path / "tiny"))


@pytest.mark.parametrize("store", ["full", "clean"])
def test_a_pair_is_what_webdataset_and_pillow_read(make_set: MakeSet, clean_folder: Path, store: str) -> None:
    path = make_set(store)
    pairs, stored, rows = open_pairs(path), stored_in(path), rows_of(path)
    assert (pairs.num_classes, pairs.size, pairs.class_names) == (CLASSES, SIZE, ("class0", "class1", "class2"))
    assert sorted(keys_of(pairs)) == sorted(rows)
    assert len(pairs) == 72
    assert len(stored) == 48
    for place in range(len(pairs)):
        pair = pairs.read(place)
        row = rows[pair.key]
        assert (pair.source_key, pair.view, pair.label) == (row["source_key"], row["view"], row["label"])
        assert pair.clean is not None
        assert pair.teacher_clean is not None
        np.testing.assert_array_equal(pair.clean, replayed(clean_folder, row))
        assert pairs.attacked[place] == (pair.key in stored)
        if pair.key not in stored:
            assert pair.adversarial is None
            assert pair.teacher_adversarial is None
            np.testing.assert_array_equal(pair.teacher_clean.values, np.array(row["teacher"], np.float16))
            continue
        members = stored[pair.key]
        assert pair.adversarial is not None
        assert pair.teacher_adversarial is not None
        np.testing.assert_array_equal(pair.adversarial, picture(members["webp"]))
        np.testing.assert_array_equal(
            [pair.teacher_clean.values, pair.teacher_adversarial.values], npy(members["teacher.npy"])
        )
        assert pair.label == int(members["cls"])
        assert json.loads(members["json"])["source_key"] == pair.source_key
        if store == "clean":
            np.testing.assert_array_equal(pair.clean, picture(members["clean.webp"]))


def test_samples_and_shards_say_which_records_belong_together(make_set: MakeSet) -> None:
    pairs, stored = open_pairs(make_set("full")), stored_in(make_set("full"))
    read = [pairs.read(place, clean=False, adversarial=False, teacher=False) for place in range(len(pairs))]
    assert len({(pair.source_key, int(sample)) for pair, sample in zip(read, pairs.samples, strict=True)}) == 24
    assert sorted(set(pairs.samples.tolist())) == list(range(24))
    tars = {
        (Path(stored[pair.key]["__url__"]).name, int(shard))
        for pair, shard in zip(read, pairs.shards, strict=True)
        if pair.key in stored
    }
    assert tars == {("tiny-00000.tar", 0), ("tiny-00001.tar", 1), ("tiny-00002.tar", 2)}


def test_only_what_is_asked_for_is_read(make_set: MakeSet) -> None:
    pairs = open_pairs(make_set("full"))
    place = int(np.flatnonzero(pairs.attacked)[0])
    clean = pairs.read(place, adversarial=False)
    assert clean.clean is not None
    assert clean.teacher_clean is not None
    assert (clean.adversarial, clean.teacher_adversarial) == (None, None)
    adversarial = pairs.read(place, clean=False, teacher=False)
    assert adversarial.adversarial is not None
    assert (adversarial.clean, adversarial.teacher_clean, adversarial.teacher_adversarial) == (None, None, None)


def test_top_k_rows_come_with_the_rest_of_one_temperature(make_set: MakeSet) -> None:
    path = make_set("top_k")
    stored, rows = stored_in(path), rows_of(path)
    for column, temperature in enumerate((1.0, 4.0)):
        pairs = open_pairs(path, temperature=temperature)
        for place in range(len(pairs)):
            pair = pairs.read(place, clean=False, adversarial=True)
            if pair.key in stored:
                members = [npy(stored[pair.key][f"{name}.npy"]) for name in ("teacher", "teacher_ids", "teacher_rest")]
            else:
                row = rows[pair.key]
                members = [np.array([row[name]]) for name in ("teacher", "teacher_ids", "teacher_rest")]
            for number, teacher in enumerate((pair.teacher_clean, pair.teacher_adversarial)):
                if teacher is None:
                    assert (number, pair.key in stored) == (1, False)
                    continue
                np.testing.assert_array_equal(teacher.values, members[0][number])
                np.testing.assert_array_equal(teacher.ids, members[1][number])
                assert teacher.log_rest == pytest.approx(float(members[2][number, column]), rel=1e-7)


def test_top_k_needs_a_temperature_that_was_stored(make_set: MakeSet) -> None:
    with pytest.raises(UserError, match=r"temperature 2: .* keep the 2 largest logits, .* for temperature 1, 4 alone"):
        open_pairs(make_set("top_k"), temperature=2)
    pairs = open_pairs(make_set("top_k"))
    assert pairs.read(0, teacher=False).teacher_clean is None
    with pytest.raises(UserError, match="temperature: must be given, one of 1, 4"):
        pairs.read(0)
    assert len(open_pairs(make_set("full"), temperature=2)) == 72  # full logits serve any temperature


def test_samples_are_tensors_that_stack(make_set: MakeSet) -> None:
    pairs = open_pairs(make_set("full"))
    batch = next(iter(DataLoader(pairs, batch_size=len(pairs))))
    assert batch["clean"].shape == batch["adversarial"].shape == (72, 3, SIZE, SIZE)
    assert batch["clean"].dtype == batch["adversarial"].dtype == torch.uint8
    assert (batch["teacher"].shape, batch["teacher"].dtype) == ((72, 2, CLASSES), torch.float16)
    assert batch["attacked"].dtype == torch.bool
    for place in range(72):
        pair = pairs.read(place)
        assert pair.teacher_clean is not None
        shown = pair.clean if pair.adversarial is None else pair.adversarial
        np.testing.assert_array_equal(batch["clean"][place].permute(1, 2, 0).numpy(), pair.clean)
        np.testing.assert_array_equal(batch["adversarial"][place].permute(1, 2, 0).numpy(), shown)
        adversarial_row = pair.teacher_adversarial or pair.teacher_clean
        np.testing.assert_array_equal(
            batch["teacher"][place].numpy(), [pair.teacher_clean.values, adversarial_row.values]
        )
        assert (batch["key"][place], batch["source_key"][place]) == (pair.key, pair.source_key)
        assert (batch["label"][place], batch["view"][place]) == (pair.label, pair.view)
        assert batch["attacked"][place] == pairs.attacked[place]


def test_top_k_samples_are_tensors_that_stack(make_set: MakeSet) -> None:
    pairs = open_pairs(make_set("top_k"), temperature=4)
    batch = next(iter(DataLoader(pairs, batch_size=len(pairs))))
    shapes = {name: (tuple(batch[name].shape), batch[name].dtype) for name in batch if name.startswith("teacher")}
    assert shapes == {
        "teacher": ((72, 2, 2), torch.float16),
        "teacher_ids": ((72, 2, 2), torch.int64),
        "teacher_log_rest": ((72, 2), torch.float32),
    }
    for place in range(72):
        pair = pairs.read(place)
        assert pair.teacher_clean is not None
        assert batch["teacher_log_rest"][place, 0].item() == pair.teacher_clean.log_rest
        np.testing.assert_array_equal(batch["teacher_ids"][place, 0], pair.teacher_clean.ids)


def batches(pairs: Pairs, workers: int) -> Iterator[dict[str, Any]]:
    yield from DataLoader(pairs, batch_size=7, num_workers=workers)


def test_workers_and_pickling_make_no_difference(make_set: MakeSet) -> None:
    pairs = open_pairs(make_set("full"))
    pairs[3]  # opens files in this process, which the workers must not share
    copy = pickle.loads(pickle.dumps(pairs))
    for one, two, three in zip(batches(pairs, 0), batches(pairs, 2), batches(copy, 0), strict=True):
        for name in one:
            for other in (two, three):
                same = torch.equal(one[name], other[name]) if torch.is_tensor(one[name]) else one[name] == other[name]
                assert same, name


def test_an_index_beyond_the_end_ends_a_loop(make_set: MakeSet) -> None:
    pairs = open_pairs(make_set("full"))
    assert pairs.read(-1).key == pairs.read(71).key
    with pytest.raises(IndexError):
        pairs[72]


def test_codes_only_sets_give_clean_images_alone(make_set: MakeSet, clean_folder: Path) -> None:
    with pytest.raises(UserError, match=r"holds codes and no images; decode it with `dad expand` first"):
        open_pairs(make_set("codes"))
    pairs, rows = open_pairs(make_set("codes"), adversarial_images=False), rows_of(make_set("codes"))
    assert not pairs.attacked.any()
    assert len(pairs) == len(rows) == 72
    for place in range(len(pairs)):
        pair = pairs.read(place)
        assert pair.clean is not None
        assert pair.teacher_clean is not None
        assert (pair.adversarial, pair.teacher_adversarial) == (None, None)
        np.testing.assert_array_equal(pair.clean, replayed(clean_folder, rows[pair.key]))
        np.testing.assert_array_equal(pair.teacher_clean.values, np.array(rows[pair.key]["teacher"][:CLASSES], "f2"))


def test_where_is_applied_and_counted(make_set: MakeSet) -> None:
    pairs = open_pairs(make_set("full"), where="view == 0 and label != 1")
    rows = rows_of(make_set("full"))
    assert sorted(keys_of(pairs)) == sorted(k for k, row in rows.items() if row["view"] == 0 and row["label"] != 1)
    assert (pairs.counts.rows, pairs.counts.failed, pairs.counts.excluded) == (75, 3, 72 - len(pairs))


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


def forget_source(path: Path) -> None:
    change_manifest(path, source={"path": "/nowhere/at/all", "kind": "image_folder"})


def change_manifest(path: Path, *, state: str = "finished", **recipe: object) -> None:
    folder = open_folder(path)
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"state": state, "recipe": manifest.recipe | recipe}))


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
    rows = npy(content[start : start + length])
    padded = (
        b"\x93NUMPY\x01\x00\x76\x00" + b"{'shape': (2, 3), 'fortran_order': False, 'descr': '<f2'}".ljust(117) + b"\n"
    )
    tar.write_bytes(content[:start] + padded + rows.tobytes() + content[start + length :])
    assert tar.stat().st_size == len(content)
    np.testing.assert_array_equal(open_pairs(copied)[0]["teacher"], rows)
    other = padded.replace(b"(2, 3)", b"(3, 2)")
    tar.write_bytes(content[:start] + other + rows.tobytes() + content[start + length :])
    with pytest.raises(UserError, match=r"not the array that was written: float16 \(3, 2\) instead"):
        open_pairs(copied).read(0)


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
