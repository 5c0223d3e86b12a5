"""`dad prepare`: any source as clean shards, and read back as a source."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from rich.text import Text
from timm.data import create_dataset
from typer.testing import CliRunner

from dad_datasets.clean_hash import CleanHash
from dad_datasets.commands.prepare import prepare
from dad_datasets.commands.prepare_screen import progress_line
from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder, open_folder
from dad_datasets.keys import encode_key
from dad_datasets.layout import INDEX, SHARDS
from dad_datasets.lease import Lease
from dad_datasets.manifest import read_manifest, write_manifest
from dad_datasets.prepared_totals import PreparedTotals
from dad_datasets.preparing import PreparationProgress, prepare_shards
from dad_datasets.shard_table import read_shard_table
from dad_datasets.sources import CleanSample, CleanSource, SourceSettings, open_source

HEADS = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "webp": b"RIFF0000WEBP", "gif": b"GIF89a"}
NAMES = ["ant", "bee", "cat"]


def picture(number: int, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten small pictures of three classes, of several types, two of which cannot be used."""
    root = tmp_path / "photos"
    for number in range(10):
        name = f"{NAMES[number % 3]}/{number} ü.{'JPEG' if number % 2 else 'png'}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(number, "JPEG" if number % 2 else "WEBP"))
    (root / "ant" / "empty.jpg").touch()
    (root / "ant" / "text.jpg").write_bytes(b"<html>")
    return root


def run(source: Path, out: Path, samples_per_shard: int = 5) -> PreparedTotals:
    return prepare_shards(SourceSettings(path=str(source)), LocalFolder(out), samples_per_shard=samples_per_shard)


def read_all(source: CleanSource, samples_per_shard: int = 4) -> list[CleanSample]:
    return [sample for unit in source.plan(samples_per_shard) for sample in source.read(unit)]


def open_at(path: Path | str) -> CleanSource:
    return open_source(SourceSettings(path=str(path)))


def files_of(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


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


def test_an_interrupted_run_goes_on(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole")
    folder = LocalFolder(tmp_path / "out")

    def stop(progress: PreparationProgress) -> None:
        if progress.done >= 5:
            raise KeyboardInterrupt

    source = SourceSettings(path=str(photos))
    with pytest.raises(KeyboardInterrupt):
        prepare_shards(source, folder, samples_per_shard=5, report=stop)
    with pytest.raises(UserError, match="did not finish"):
        open_at(tmp_path / "out")
    (tmp_path / "out" / SHARDS / ".tmp-123-x.tar").touch()  # what a killed writer leaves
    first = tmp_path / "out" / SHARDS / "photos-00000.tar"
    os.utime(first, ns=(1, 1))
    reports: list[PreparationProgress] = []
    prepare_shards(source, folder, samples_per_shard=5, report=reports.append)
    assert first.stat().st_mtime_ns == 1  # not written anew
    assert [(report.done, report.failed) for report in reports][-1] == (12, 2)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_another_run_in_the_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    with pytest.raises(UserError, match="samples_per_shard: 5 there, 6 now"):
        run(photos, tmp_path / "out", 6)
    (photos / "bee" / "new.png").write_bytes(picture(9, "PNG"))
    with pytest.raises(UserError, match=r"source\.identity"):
        run(photos, tmp_path / "out")


def test_an_index_of_another_run_is_refused(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", 6)
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(UserError, match="is of another run"):
        run(photos, tmp_path / "out", 5)


def test_an_index_of_another_run_is_refused_though_its_tar_is_gone(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", 6)
    (tmp_path / "out" / "manifest.json").unlink()
    shutil.rmtree(tmp_path / "out" / SHARDS)
    with pytest.raises(UserError, match="is of another run"):
        run(photos, tmp_path / "out", 5)
    assert len(list((tmp_path / "out" / INDEX).iterdir())) == 2


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


def test_two_runs_at_once_are_refused(photos: Path, tmp_path: Path) -> None:
    with Lease(tmp_path / "out"), pytest.raises(UserError, match="is being written by another run"):
        run(photos, tmp_path / "out")


def test_out_must_be_writable(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        run(photos, tmp_path / "file" / "out")


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


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(prepare)
    return app


def test_command_ends_with_a_table(photos: Path, tmp_path: Path, command: typer.Typer) -> None:
    arguments = [str(photos), str(tmp_path / "out"), "--samples-per-shard", "5"]
    for _ in range(2):
        result = CliRunner().invoke(command, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
        assert result.exit_code == 0
        assert re.search(r"│ images +│ 10 ", result.output), result.output
        assert "unknown image type" in result.output


def test_an_interrupted_command_says_how_to_go_on(
    photos: Path, tmp_path: Path, command: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dad_datasets.preparing.prepare_shards", interrupted)
    result = CliRunner().invoke(command, [str(photos), str(tmp_path / "out")], env={"COLUMNS": "200"})
    assert result.exit_code == 130
    assert "interrupted: what is finished is kept; run the same command again to go on from there" in result.output


def test_a_lost_tar_is_written_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / SHARDS / "photos-00001.tar").unlink()
    notes: list[str] = []
    states: list[str] = []
    settings = SourceSettings(path=str(photos))

    def report(progress: PreparationProgress) -> None:
        states.append(f"{read_manifest(LocalFolder(out)).state} {progress.done}")

    prepare_shards(settings, LocalFolder(out), samples_per_shard=5, report=report, note=notes.append)
    assert notes == [f"{out}/shards/photos-00001.tar is gone: its unit is made again"]
    assert states == ["running 7", "running 12"]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_terminal_shows_how_far_it_is() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    with progress_line(terminal) as report:
        report(PreparationProgress(done=5, total=12, failed=1))
    assert isinstance(terminal.file, io.StringIO)
    shown = Text.from_ansi(terminal.file.getvalue()).plain
    assert "preparing" in shown
    assert "5/12 images" in shown
    assert "1 failed" in shown


def test_a_mistake_stands_alone(tmp_path: Path) -> None:
    """No bar of work that never began is left above the sentence."""
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    typo = SourceSettings(path=str(tmp_path / "typo"))
    with pytest.raises(UserError, match="no such file"), progress_line(terminal) as report:
        prepare_shards(typo, open_folder(tmp_path / "out"), samples_per_shard=5, report=report)
    assert isinstance(terminal.file, io.StringIO)
    assert terminal.file.getvalue() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{photos}", "{photos}/out"], "is inside the source"),
        (["{photos}", "out", "--kind", "zip"], "kind = 'zip': should be 'auto', 'image_folder'"),
        (["{photos}", "out", "--label-column", "x"], "label_column is for Parquet"),
    ],
)
def test_command_refuses(photos: Path, command: typer.Typer, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(command, [argument.format(photos=photos) for argument in arguments])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
