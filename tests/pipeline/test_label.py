"""`dad label` against sets whose own teacher it repeats, interrupted, and mistaken; and what `dad verify` finds."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import typer
import yaml
from PIL import Image
from tiny_labels import as_if_generated, label, label_recipe
from tiny_run import RawRecipe, dataset_bytes, run_recipe, tiny_recipe, write_images

from dad_datasets.commands.verify import verify
from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.index import ShardSummary
from dad_datasets.label_verification import label_problems
from dad_datasets.labels import TEACHER_COLUMNS, labels_folder
from dad_datasets.lease import only_writer
from dad_datasets.manifest import read_manifest, write_manifest
from dad_datasets.verification import problems
from dad_pipeline.labelling import label_run
from dad_pipeline.labelling.labelled_unit import Labelling, label_unit
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.teachers import Teacher

DAD = str(Path(sys.executable).with_name("dad"))

TOP_K = {"top_k": 2, "temperatures": [1.0, 4.0]}


@pytest.fixture(scope="module")
def raw(quantizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RawRecipe:
    """24 images and one that is none; two attacked views of each and a clean-only one."""
    images = write_images(tmp_path_factory.mktemp("clean") / "tiny")
    (images / "class1/broken.png").write_bytes(b"no image")
    recipe = tiny_recipe(images, quantizer_folder)
    recipe["views"]["draw"] += [{"kind": "pad_crop", "attack": False}]
    return recipe | {"max_failure_rate": 0.5}


@pytest.fixture(scope="module")
def made(raw: RawRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "set"
    complete, screen = run_recipe(raw, out)
    assert complete, screen
    return out


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    """A copy to be labelled."""
    return Path(shutil.copytree(made, tmp_path / "set"))


def logits_in(folder: Path) -> dict[str, bytes]:
    """Every member that holds logits, by unit and name."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("shards/*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if ".teacher" in member.name and content is not None:
                    found[f"{path.stem}/{member.name}"] = content.read()
    return found


def found_in(dataset: Path) -> list[str]:
    folder = open_folder(dataset)
    return list(label_problems(folder, read_manifest(folder)))


@pytest.mark.parametrize("logits", ["full", TOP_K])
def test_labels_are_what_the_teacher_would_have_said_when_the_set_was_made(
    raw: RawRecipe, dataset: Path, tmp_path: Path, logits: object
) -> None:
    label(dataset, label_recipe(raw, logits=logits))
    complete, screen = run_recipe(as_if_generated(raw) | {"store": {"logits": logits}}, tmp_path / "expected")
    assert complete, screen
    labels = dataset / "labels/other"
    assert len(logits_in(labels)) == (48 if logits == "full" else 144)
    assert logits_in(labels) == logits_in(tmp_path / "expected")
    names = ["key", "source_key", "source_shard", "view", "label", "status", "reason", "teacher"]
    names += ["teacher_ids", "teacher_rest"] if logits != "full" else []
    for path in (tmp_path / "expected").glob("index/*.parquet"):
        here, there = pq.read_table(labels / "index" / path.name), pq.read_table(path)
        assert here.select(names).equals(there.select(names))
        for name, _ in TEACHER_COLUMNS:
            np.testing.assert_allclose(here[name].to_numpy(), there[name].to_numpy(), rtol=1e-6)  # NaN where null


def test_stored_clean_canvases_serve_as_well(raw: RawRecipe, tmp_path: Path) -> None:
    images = write_images(tmp_path / "tiny")
    attacked = {**raw["views"], "draw": [draw for draw in raw["views"]["draw"] if draw.get("attack", True)]}
    recipe = raw | {"source": {"path": str(images)}, "views": attacked, "store": {"clean": True}}
    run_recipe(recipe, tmp_path / "set")
    label(tmp_path / "set", label_recipe(raw, source=recipe["source"]), "replayed")
    shutil.rmtree(images)
    label(tmp_path / "set", label_recipe(raw), "stored")
    replayed, stored = (logits_in(tmp_path / "set/labels" / name) for name in ("replayed", "stored"))
    assert len(replayed) == 48
    assert replayed == stored


def test_nothing_else_in_the_set_changes(raw: RawRecipe, made: Path, dataset: Path) -> None:
    screen = label(dataset, label_recipe(raw))
    label(dataset, label_recipe(raw, teacher=raw["teacher"] | {"seed": 2}), "third")
    others = {name: content for name, content in dataset_bytes(dataset).items() if not name.startswith("labels/")}
    assert others == dataset_bytes(made)
    assert "accuracy, adversarial" in screen
    assert "failed views" in screen
    folder = open_folder(dataset)
    assert list(problems(folder, read_manifest(folder))) == []
    assert found_in(dataset) == []
    manifest = read_manifest(labels_folder(folder, "other"))
    assert (manifest.kind, manifest.state, manifest.num_classes, manifest.shards) == ("labels", "finished", 3, 3)
    assert manifest.class_names == ("class0", "class1", "class2")
    assert manifest.fingerprinted["weights"].keys() == {"teacher"}


def test_the_command(raw: RawRecipe, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no better than chance.*--set check\.allow_near_chance=true"):
        label(dataset, label_recipe(raw, check={}))
    assert not (dataset / "labels/other/manifest.json").exists()
    recipe = tmp_path / "label.yaml"
    recipe.write_text(yaml.safe_dump(label_recipe(raw, check={})))
    command = [DAD, "label", str(dataset), str(recipe), "--name", "other", "--set", "check.allow_near_chance=true"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "teacher accuracy on 24 samples" in result.stdout
    assert "the set's own teacher" in result.stdout


def stop_at_unit(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As Ctrl-C while that unit is at the teacher."""
    begun: list[str] = []

    def interrupted(unit: ShardSummary, labelling: Labelling, on_views: Callable[[int], None]) -> UnitReport:
        begun.append(unit.unit)

        def stop(_: int) -> None:
            raise KeyboardInterrupt

        return label_unit(unit, labelling, stop if len(begun) == number else on_views)

    monkeypatch.setattr(label_run, "label_unit", interrupted)


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    raw: RawRecipe, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path(shutil.copytree(dataset, tmp_path / "whole"))
    label(whole, label_recipe(raw))
    with monkeypatch.context() as patch:
        stop_at_unit(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            label(dataset, label_recipe(raw))
    labels = dataset / "labels/other"
    assert [path.name for path in labels.glob("index/*")] == ["tiny-00000.parquet"]
    assert [path.name for path in labels.glob("shards/*")] == ["tiny-00000.tar"]
    assert any("labels/other: is not finished" in problem for problem in found_in(dataset))
    assert "1 units are finished already" in label(dataset, label_recipe(raw))
    assert dataset_bytes(labels) == dataset_bytes(whole / "labels/other")
    assert "3 units are finished already" in label(dataset, label_recipe(raw))
    (labels / "shards/tiny-00001.tar").unlink()
    screen = label(dataset, label_recipe(raw))
    assert "labels/other/shards/tiny-00001.tar is gone: its unit is made again" in screen
    assert "2 units are finished already" in screen
    assert dataset_bytes(labels) == dataset_bytes(whole / "labels/other")


def test_a_view_without_a_finite_result_keeps_its_place(
    raw: RawRecipe, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Teacher.forward

    def sometimes_nothing(self: Teacher, pixels: torch.Tensor) -> torch.Tensor:
        return forward(self, pixels).masked_fill((pixels.mean(dim=(1, 2, 3)) < 0.45)[:, None], float("nan"))

    monkeypatch.setattr(Teacher, "forward", sometimes_nothing)
    label(dataset, label_recipe(raw))
    rows = [row for path in dataset.glob("labels/other/index/*") for row in pq.read_table(path).to_pylist()]
    assert len(rows) == 75
    failed = [row for row in rows if row["reason"] == "non-finite model output"]
    assert 3 < len(failed) < 70
    assert {row["status"] for row in failed} == {"failed"}
    assert all(row["teacher_offset"] is None and row["teacher"] is None for row in failed)
    assert sum(row["reason"] != "" for row in rows) == len(failed) + 3, "those of the set stay as they were"
    assert found_in(dataset) == []


def test_another_recipe_under_the_same_name_is_refused(raw: RawRecipe, dataset: Path) -> None:
    label(dataset, label_recipe(raw))
    with pytest.raises(UserError, match=r"labels/other was begun with other settings \(recipe\.logits"):
        label(dataset, label_recipe(raw, logits=TOP_K))
    with pytest.raises(UserError, match=r"recipe\.teacher\.seed: 1 there, 2 now"):
        label(dataset, label_recipe(raw, teacher=raw["teacher"] | {"seed": 2}))
    with only_writer(labels_folder(open_folder(dataset), "other")):
        label(dataset, label_recipe(raw), "third")  # another name has its own lease
        with pytest.raises(UserError, match="is being written by another run"):
            label(dataset, label_recipe(raw))


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "x" * 101])
def test_what_cannot_be_a_name_is_refused(raw: RawRecipe, made: Path, name: str) -> None:
    with pytest.raises(UserError, match="a name is 1 to 100 letters"):
        label(made, label_recipe(raw), name)


def test_what_cannot_be_labelled_is_refused(raw: RawRecipe, dataset: Path, tmp_path: Path) -> None:
    run_recipe(raw | {"store": {"image": "none"}}, tmp_path / "codes")
    with pytest.raises(UserError, match=r"holds codes and no images; decode it with `dad expand` first"):
        label(tmp_path / "codes", label_recipe(raw))
    with pytest.raises(UserError, match="class_names: 2 names, but the set has 3 classes"):
        label(dataset, label_recipe(raw, class_names=["a", "b"]))
    with pytest.raises(UserError, match=r"logits\.top_k = 4: the teacher has 3 classes"):
        label(dataset, label_recipe(raw, logits={"top_k": 4}))
    folder = open_folder(dataset)
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"class_names": None, "num_classes": 5}))
    with pytest.raises(UserError, match="teacher: has 1000 classes, but the set has 5"):
        label(dataset, label_recipe(raw))
    write_manifest(folder, manifest.model_copy(update={"state": "running"}))
    with pytest.raises(UserError, match="is not finished: run `dad generate` again"):
        label(dataset, label_recipe(raw))
    assert not (dataset / "labels").exists()


def test_a_teacher_refused_at_the_last_look_leaves_no_labels_behind(raw: RawRecipe, dataset: Path) -> None:
    with pytest.raises(UserError, match="no better than chance"):
        label(dataset, label_recipe(raw, check={"allow_near_chance": False}), "guess")
    assert (dataset / "labels/guess").is_dir()  # where it held its lease
    assert found_in(dataset) == []
    label(dataset, label_recipe(raw))
    assert found_in(dataset) == []


def test_clean_images_may_have_moved_but_not_changed(raw: RawRecipe, made: Path, dataset: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(raw["source"]["path"], tmp_path / "tiny"))
    recipe = label_recipe(raw, source={"path": str(moved)})
    label(dataset, recipe)
    (moved / "class0/3.png").unlink()
    other = Path(shutil.copytree(made, tmp_path / "other"))
    with pytest.raises(UserError, match=r"holds no usable image class0/3\.png"):
        label(other, recipe)
    Image.new("RGB", (20, 18)).save(moved / "class0/3.png")
    with pytest.raises(UserError, match=r"class0/3\.png has other pixels than those that were attacked"):
        label(other, recipe)
    shutil.rmtree(moved)
    with pytest.raises(UserError, match="tiny"):
        label(other, recipe)


def test_damaged_images_are_named(raw: RawRecipe, dataset: Path) -> None:
    row = next(r for r in pq.read_table(dataset / "index/tiny-00001.parquet").to_pylist() if r["status"] == "ok")
    path = dataset / "shards/tiny-00001.tar"
    content = bytearray(path.read_bytes())
    content[row["image_offset"] : row["image_offset"] + row["image_length"]] = b"x" * row["image_length"]
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"the image of {row['key']} cannot be decoded"):
        label(dataset, label_recipe(raw))


def lose_a_tar(labels: Path) -> None:
    (labels / "shards/tiny-00001.tar").unlink()


def flip_a_byte(labels: Path) -> None:
    path = labels / "shards/tiny-00001.tar"
    content = bytearray(path.read_bytes())
    content[600] ^= 1
    path.write_bytes(content)


def lose_an_index(labels: Path) -> None:
    (labels / "index/tiny-00001.parquet").unlink()


def edit_the_manifest(labels: Path) -> None:
    path = labels / "manifest.json"
    path.write_text(path.read_text().replace('"preprocessing": "', '"preprocessing": "not '))


def take_those_of_another_unit(labels: Path) -> None:
    for kind, suffix in (("index", "parquet"), ("shards", "tar")):
        shutil.copy(labels / kind / f"tiny-00000.{suffix}", labels / kind / f"tiny-00001.{suffix}")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing tar": (lose_a_tar, "labels/other: shards/tiny-00001.tar: the shard is missing"),
    "flipped byte": (flip_a_byte, "labels/other: shards/tiny-00001.tar: its bytes are not those that were written"),
    "missing index": (lose_an_index, "index/tiny-00001.parquet: the index is missing"),
    "edited manifest": (edit_the_manifest, "labels/other: manifest.json: its fingerprint is not the hash"),
    "another unit": (take_those_of_another_unit, "unit tiny-00001: its rows are not the views of the dataset"),
}


def test_verify_finds_damaged_labels(
    raw: RawRecipe, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(dataset, label_recipe(raw))
    for name, (damage, expected) in DAMAGE.items():
        copy = Path(shutil.copytree(dataset, tmp_path / name))
        damage(copy / "labels/other")
        assert any(expected in problem for problem in found_in(copy)), (name, found_in(copy))
    flip_a_byte(dataset / "labels/other")
    with pytest.raises(typer.Exit):
        verify(str(dataset), replay=0, seed=0)
    assert "labels/other: shards/tiny-00001.tar" in capsys.readouterr().out


def test_a_run_over_the_set_leaves_the_files_of_a_labelling_run_alone(raw: RawRecipe, dataset: Path) -> None:
    draft = dataset / "labels/other/shards/.tmp-abc-tiny-00000.tar"
    draft.parent.mkdir(parents=True)
    draft.write_bytes(b"half of it")
    run_recipe(raw, dataset)
    assert draft.exists()
    label(dataset, label_recipe(raw))
    assert not draft.exists()
