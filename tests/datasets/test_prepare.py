"""`dad prepare`: any source as clean shards, and read back as a source."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from prepared_photos import NAMES, files_of, open_at, picture, read_all, run, write_photos
from timm.data import create_dataset

from dad_datasets.clean_hash import CleanHash
from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder, open_folder
from dad_datasets.keys import encode_key
from dad_datasets.layout import INDEX, SHARDS
from dad_datasets.manifest import read_manifest, write_manifest
from dad_datasets.preparing import prepare_shards
from dad_datasets.shard_table import read_shard_table
from dad_datasets.sources import CleanSource, SourceSettings

HEADS = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "webp": b"RIFF0000WEBP", "gif": b"GIF89a"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


def test_totals_manifest_and_table(photos: Path, tmp_path: Path) -> None:
    totals = run(photos, tmp_path / "out")
    assert (totals.images, totals.num_classes, totals.shards) == (10, 3, 3)
    assert totals.failures == {"image is empty": 1, "unknown image type": 1}
    folder = LocalFolder(tmp_path / "out")
    manifest = read_manifest(folder)
    assert (manifest.kind, manifest.state, manifest.class_names) == ("clean", "finished", tuple(NAMES))
    assert (manifest.samples, manifest.shards, manifest.num_classes) == (12, 3, 3)
    assert [summary.unit for summary in read_shard_table(folder)] == [f"photos-0000{part}" for part in range(3)]
    assert totals.tar_bytes == sum(path.stat().st_size for path in (tmp_path / "out" / SHARDS).iterdir())


def test_index_points_at_the_members(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    source = {sample.source_key: sample for sample in read_all(open_at(photos))}
    for index in sorted((tmp_path / "out" / INDEX).iterdir()):
        tar = (tmp_path / "out" / SHARDS / f"{index.stem}.tar").read_bytes()
        for row in pq.read_table(index).to_pylist():
            sample = source[row["source_key"]]
            if row["status"] == "failed":
                assert row["reason"] in ("image is empty", "unknown image type")
                assert row["image_offset"] is row["cls_length"] is row["json_offset"] is None
                continue
            image, label, document = (
                tar[row[f"{part}_offset"] :][: row[f"{part}_length"]] for part in ("image", "cls", "json")
            )
            assert (image, int(label), row["label"]) == (sample.image, sample.label, sample.label)
            assert json.loads(document) == {"source_key": sample.source_key}
            assert row["key"] == encode_key(sample.source_key)


def test_extension_follows_the_bytes(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    for path in (tmp_path / "out" / SHARDS).iterdir():
        with tarfile.open(path) as tar:
            types = {name.rpartition(".")[2] for name in tar.getnames()}
        assert types <= {"jpg", "webp", "cls", "json"}


def test_prepared_is_the_same_source(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    before, after = open_at(photos), open_at(tmp_path / "out")
    unusable = [sample for sample in read_all(after) if sample.problem]
    assert {sample.source_key for sample in unusable} == {"ant/empty.jpg", "ant/text.jpg"}
    assert [s for s in read_all(after, 3) if not s.problem] == [
        s for s in read_all(before) if s.source_key not in {"ant/empty.jpg", "ant/text.jpg"}
    ]
    assert [sample.source_key for sample in read_all(after, 7)] == [sample.source_key for sample in read_all(before)]
    assert after.class_names == before.class_names
    assert after.label_range() == (0, 2)
    assert after.longest_key() == before.longest_key()
    sent: CleanSource = pickle.loads(pickle.dumps(after))
    assert read_all(sent) == read_all(after)
    assert sent.identity() == after.identity()


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(sorted(HEADS)), st.binary(max_size=600), st.integers(0, 2**31 - 1)),
        min_size=1,
        max_size=9,
    ),
    samples_per_shard=st.integers(1, 5),
)
@settings(max_examples=15, deadline=None)
def test_any_bytes_and_labels_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, bytes, int]], samples_per_shard: int
) -> None:
    base = tmp_path_factory.mktemp("roundtrip")
    images = [HEADS[kind] + content for kind, content, _ in rows]
    pq.write_table(pa.table({"img": images, "label": [label for *_, label in rows]}), base / "a.parquet")
    run(base / "a.parquet", base / "out", samples_per_shard)
    assert read_all(open_at(base / "out")) == read_all(open_at(base / "a.parquet"))
    digest = CleanHash()
    for sample in read_all(open_at(base / "a.parquet")):
        digest.add(sample.source_key, hashlib.sha256(sample.image).digest())
    assert read_manifest(LocalFolder(base / "out")).clean_sha256 == digest.hexdigest()


def test_equal_runs_give_equal_bytes(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "one")
    run(photos, tmp_path / "two")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_foreign_readers_read_the_tars(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    usable = {sample.source_key: sample for sample in read_all(open_at(tmp_path / "out")) if not sample.problem}
    tars = sorted(str(path) for path in (tmp_path / "out" / SHARDS).iterdir())
    theirs = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert [json.loads(sample["json"])["source_key"] for sample in theirs] == list(usable)
    for found, sample in zip(theirs, usable.values(), strict=True):
        assert int(found["cls"]) == sample.label
        assert found.get("jpg", found.get("webp")) == sample.image


def test_hugging_face_reads_the_tars(tmp_path: Path) -> None:
    table = pa.table({"img": [picture(number, "PNG") for number in range(6)], "label": [0, 1, 2, 0, 1, 2]})
    pq.write_table(table, tmp_path / "a.parquet")
    run(tmp_path / "a.parquet", tmp_path / "out", 4)
    rows = datasets.load_dataset(
        "webdataset", data_files={"train": str(tmp_path / "out/shards/*.tar")}, split="train", streaming=True
    )
    found = [(int(np.asarray(row["png"])[0, 0, 0]), row["cls"], row["json"]["source_key"]) for row in rows]
    assert found == [(number, number % 3, f"a/{number:06d}") for number in range(6)]


def test_hugging_face_loads_the_prepared_folder_by_its_card(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    usable = {sample.source_key: sample for sample in read_all(open_at(photos)) if not sample.problem}
    del usable["ant/text.jpg"]  # which is no image
    assert {row["json"]["source_key"] for row in loaded} == usable.keys()
    for row in loaded:
        sample = usable[row["json"]["source_key"]]
        found = [row[kind] for kind in ("jpg", "webp") if row[kind] is not None]
        assert len(found) == 1
        expected = Image.open(io.BytesIO(sample.image)).convert("RGB")
        assert np.array_equal(np.asarray(found[0].convert("RGB")), np.asarray(expected))
        assert loaded.features["cls"].int2str(row["cls"]) == NAMES[sample.label]
    assert loaded.features.keys() == {"jpg", "webp", "cls", "json", "__key__", "__url__"}


def test_timm_loads_the_prepared_folder(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    loaded = create_dataset("wds/", root=str(tmp_path / "out"), split="train", is_training=False, batch_size=1)
    usable = [sample for sample in read_all(open_at(tmp_path / "out")) if not sample.problem]
    expected = [(np.asarray(Image.open(io.BytesIO(sample.image)))[0, 0, 0], sample.label) for sample in usable]
    assert sorted((np.asarray(image)[0, 0, 0], label) for image, label in loaded) == sorted(expected)


def test_the_card_says_what_is_unusable(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| unusable samples | 2 |" in card
    assert "| unknown image type | 1 |" in card
    assert str(photos) in card


def test_a_set_that_was_prepared_before_types_were_noted_gets_a_card_too(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    for path in (tmp_path / "out" / INDEX).iterdir():
        pq.write_table(pq.read_table(path).drop_columns(["image_type"]), path)
    run(photos, tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 10
    assert {"jpg", "webp", "png", "gif"} < loaded.features.keys()


def write_labels(path: Path, labels: list[int], names: list[str] | None = None) -> Path:
    metadata = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = pa.table({"image": [HEADS["jpg"]] * len(labels), "label": labels})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(metadata)} if names else None), path)
    return path


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [([0, 1, 3], NAMES, "largest label is 3, but it names 3 classes"), ([-1, -1], None, "no labels")],
)
def test_wrong_labels_are_refused_before_work(
    tmp_path: Path, labels: list[int], names: list[str] | None, message: str
) -> None:
    source = write_labels(tmp_path / "a.parquet", labels, names)
    with pytest.raises(UserError, match=message):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wrong_labels_without_statistics_are_rows(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "a.parquet", [0, 5, -1], NAMES)
    pq.write_table(pq.read_table(path), path, write_statistics=False)
    totals = run(path, tmp_path / "out")
    assert totals.failures == {"label is not below the number of classes": 1, "label is negative": 1}
    assert [sample.label for sample in read_all(open_at(tmp_path / "out"))] == [0, 5, -1]
    assert open_at(tmp_path / "out").label_range() == (0, 0)  # of the usable ones


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"<html>"] * 3, "label": [0, 1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="not one of the source's 3 samples is usable; 3 times: unknown image type"):
        run(tmp_path / "a.parquet", tmp_path / "out")


def test_keys_too_long_for_a_tar_are_refused(tmp_path: Path) -> None:
    (tmp_path / "photos" / "ant").mkdir(parents=True)
    (tmp_path / "photos" / "ant" / f"{'x' * 90}.png").write_bytes(picture(1, "PNG"))
    with pytest.raises(UserError, match="at most 100 are allowed"):
        run(tmp_path / "photos", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_prepared_folders_are_refused(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    source = open_at(out)
    unit = next(source.plan(5))
    (out / unit.source_shard).write_bytes(b"")
    assert {sample.problem for sample in source.read(unit) if not sample.problem.endswith(("empty", "type"))} == {
        "image member cut off"
    }
    with pytest.raises(UserError, match="fewer rows than"):
        list(source.read(dataclasses.replace(unit, start=3)))
    folder = LocalFolder(out)
    recipe = {"source": {}, "store": {"image": "webp"}, "views": {}, "samples_per_shard": 1}
    write_manifest(folder, read_manifest(folder).model_copy(update={"kind": "adversarial", "recipe": recipe}))
    with pytest.raises(UserError, match="holds adversarial shards; expected clean ones"):
        open_at(out)
    (out / "shards.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match="table of shards is damaged"):
        read_shard_table(folder)
    (out / "shards.parquet").unlink()
    with pytest.raises(UserError, match="table of shards is missing"):
        read_shard_table(folder)


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://prepared"
    fsspec.filesystem("memory").rm("/prepared", recursive=True)


def test_remote_output(photos: Path, memory: str) -> None:
    prepare_shards(SourceSettings(path=str(photos)), open_folder(memory), samples_per_shard=5)
    keys = [sample.source_key for sample in read_all(open_at(memory))]
    assert keys == [sample.source_key for sample in read_all(open_at(photos))]
