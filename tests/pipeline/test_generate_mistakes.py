"""Mistakes at the command line: one sentence, no traceback, nothing written."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import NUM_IMAGES, RawRecipe, run_recipe

from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.index import read_index
from dad_datasets.settings import apply_overrides, build_settings
from dad_pipeline.generation_run import TooManyFailuresError
from dad_pipeline.recipe import Recipe

Change = Callable[[RawRecipe, Path], None]


def set_field(dotted: str, value: object) -> Change:
    def change(raw: RawRecipe, folder: Path) -> None:
        section: Any = raw
        *parents, last = dotted.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value

    return change


def empty_source(raw: RawRecipe, folder: Path) -> None:
    (folder / "empty").mkdir()
    raw["source"]["path"] = str(folder / "empty")


def label_out_of_range(raw: RawRecipe, folder: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (20, 20)).save(stream, "PNG")
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, content in (("x.png", stream.getvalue()), ("x.cls", b"7")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    raw["source"]["path"] = str(folder / "a.tar")
    raw["class_names"] = ["a", "b", "c"]


def other_architecture(raw: RawRecipe, folder: Path) -> None:
    torch.save({"state_dict": {"conv.weight": torch.zeros(1)}}, folder / "other.pt")
    raw["teacher"] = {"kind": "timm", "architecture": "test_resnet", "checkpoint": str(folder / "other.pt")}


def long_name(raw: RawRecipe, folder: Path) -> None:
    for label in ("a", "b", "c"):
        (folder / "long" / label).mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(folder / "long" / label / f"{'x' * 90}.png")
    raw["source"]["path"] = str(folder / "long")


MISTAKES: dict[str, tuple[Change, str]] = {
    "unknown field": (set_field("attack.epsilom", 1.0), r"attack\.epsilom: unknown field; did you mean epsilon\?"),
    "wrong type": (set_field("attack.steps", "many"), r"attack\.steps = 'many'"),
    "out of range": (set_field("attack.epsilon", -1.0), r"attack\.epsilon = -1\.0: should be greater than 0"),
    "not a choice": (set_field("store.image", "gif"), r"store\.image.*= 'gif'.*'webp'"),
    "missing source": (set_field("source.path", "/nowhere/at/all"), "/nowhere/at/all"),
    "missing checkpoint": (
        set_field("teacher", {"kind": "timm", "architecture": "test_resnet", "checkpoint": "/nowhere/t.pt"}),
        "/nowhere/t.pt",
    ),
    "unknown field of a kind": (
        set_field("teacher.img_size", 32),
        r"^recipe r\.yaml: teacher\.img_size: unknown field; did you mean image_size\?$",
    ),
    "unknown kind": (set_field("teacher.kind", "clip"), r"teacher\.kind = 'clip': should be one of .*timm"),
    "missing quantizer": (set_field("quantizer.checkpoint", "/nowhere/q"), "/nowhere/q"),
    "another architecture": (other_architecture, "another architecture"),
    "class names of another length": (set_field("class_names", ["a", "b"]), "2 names, but the source has 3 classes"),
    "size that the factor does not divide": (set_field("views.size", 17), r"17.*not a multiple.*2"),
    "empty dataset": (empty_source, "empty"),
    "label out of range": (label_out_of_range, "labels reach 7, but the teacher has 3 classes"),
    "member names too long": (long_name, "at most 100"),
    "no view attacked": (set_field("views.draw", [{"kind": "centre", "attack": False}]), "must be attacked"),
    "codes-only without codes": (set_field("store", {"image": "none", "codes": False}), "needs store.codes true"),
    "no such device": (set_field("compute.device", "cuda"), "no GPU was found"),
    "a teacher that guesses": (set_field("check", {}), "--set check.allow_near_chance=true"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_before_any_shard(recipe: RawRecipe, tmp_path: Path, name: str) -> None:
    if name == "no such device" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so asking for one is no mistake here")
    change, expected = MISTAKES[name]
    change(recipe, tmp_path)

    def generate() -> None:
        settings = build_settings(Recipe, recipe, origin="recipe r.yaml")
        run_recipe(settings.model_dump(), tmp_path / "out")

    with pytest.raises(UserError, match=expected) as caught:
        generate()
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*.tar"))


def test_an_unwritable_output_is_refused(recipe: RawRecipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        run_recipe(recipe, tmp_path / "file/out")


def test_a_second_run_on_one_directory_is_refused(recipe: RawRecipe, tmp_path: Path) -> None:
    from dad_datasets.lease import Lease

    with Lease(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()} on"):
        run_recipe(recipe, tmp_path)


def test_a_prepared_folder_is_no_output_directory(recipe: RawRecipe, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(
        '{"format_version": 1, "kind": "clean", "state": "finished", "fingerprint": "", "fingerprinted": {}, '
        '"class_names": null, "num_classes": 3, "shards": 1, "samples": 1, "clean_sha256": ""}'
    )
    with pytest.raises(UserError, match="holds a clean dataset"):
        run_recipe(recipe, tmp_path)


@pytest.fixture
def damaged_images(images: Path, tmp_path: Path) -> Path:
    """The tiny images, and beside them one that is no image and one that is cut off."""
    import shutil

    root = tmp_path / "damaged"
    shutil.copytree(images, root)
    (root / "class0/nonsense.png").write_bytes(b"not an image")
    whole = (root / "class1/0.png").read_bytes()
    (root / "class2/cut.png").write_bytes(whole[: len(whole) // 2])
    return root


def test_a_corrupt_image_is_a_row_with_its_reason(recipe: RawRecipe, damaged_images: Path, tmp_path: Path) -> None:
    recipe |= {"source": {"path": str(damaged_images)}, "max_failure_rate": 0.1}
    complete, screen = run_recipe(recipe, tmp_path / "out")
    assert complete
    assert "not an image" in screen
    units = [path.stem for path in (tmp_path / "out/index").glob("*.parquet")]
    rows = [row for unit in units for row in read_index(open_folder(tmp_path / "out"), unit).to_pylist()]
    assert len(rows) == 2 * (NUM_IMAGES + 2)
    failed = {(row["source_key"], row["reason"]) for row in rows if row["status"] == "failed"}
    assert failed == {("class0/nonsense.png", "not an image"), ("class2/cut.png", "truncated")}
    assert all(row["image_sha256"] is None for row in rows if row["status"] == "failed")


def test_a_corrupt_image_moves_no_other_sample(recipe: RawRecipe, damaged_images: Path, tmp_path: Path) -> None:
    """Batches have fixed places: the other samples come out the same whether one of them is readable or not."""
    recipe |= {"source": {"path": str(damaged_images)}, "max_failure_rate": 0.1}
    run_recipe(recipe, tmp_path / "damaged-out")
    for name in ("class0/nonsense.png", "class2/cut.png"):
        Image.new("RGB", (20, 18), "teal").save(damaged_images / name)
    run_recipe(recipe, tmp_path / "mended-out")
    damaged, mended = (
        {row["key"]: row for unit in units for row in read_index(open_folder(out), unit).to_pylist()}
        for out in (tmp_path / "damaged-out", tmp_path / "mended-out")
        for units in [[path.stem for path in (out / "index").glob("*.parquet")]]
    )
    good = {key for key, row in damaged.items() if row["status"] == "ok"}
    assert len(good) == 2 * NUM_IMAGES
    assert {key: damaged[key]["image_sha256"] for key in good} == {key: mended[key]["image_sha256"] for key in good}


def test_too_many_failures_stop_the_run_and_keep_what_is_done(
    recipe: RawRecipe, damaged_images: Path, tmp_path: Path
) -> None:
    recipe |= {"source": {"path": str(damaged_images)}, "max_failure_rate": 0.01}
    allowed = r"of 52 views failed, more than max_failure_rate = 0\.01 allows"
    example = r"\(for example (class0/nonsense\.png: not an image|class2/cut\.png: truncated)\)"
    with pytest.raises(TooManyFailuresError, match=rf"{allowed} {example}"):
        run_recipe(recipe, tmp_path / "out")
    done = len(list((tmp_path / "out/index").glob("*.parquet")))
    assert done
    recipe["max_failure_rate"] = 0.2
    complete, screen = run_recipe(recipe, tmp_path / "out")
    assert complete
    assert f"{done} units are finished already" in screen or done == 3


def test_a_model_that_gives_nan_fails_the_sample_and_not_the_run(
    recipe: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dad_pipeline.teachers import Teacher

    forward = Teacher.forward

    def poisoned(self: Teacher, pixels: torch.Tensor) -> torch.Tensor:
        logits = forward(self, pixels)
        dark = pixels.mean(dim=(1, 2, 3)) < 0.45
        return torch.where(dark[:, None], torch.full_like(logits, torch.nan), logits)

    monkeypatch.setattr(Teacher, "forward", poisoned)
    recipe["max_failure_rate"] = 1.0
    complete, screen = run_recipe(recipe, tmp_path)
    assert complete
    assert "non-finite model output" in screen
    units = [path.stem for path in (tmp_path / "index").glob("*.parquet")]
    rows = [row for unit in units for row in read_index(open_folder(tmp_path), unit).to_pylist()]
    assert {row["status"] for row in rows} == {"ok", "failed"}
    assert all(np.isfinite(row["objective_after"]) for row in rows if row["status"] == "ok")


def test_overrides_reach_the_recipe(recipe: RawRecipe) -> None:
    changed = apply_overrides(recipe, ["attack.epsilon=0.5", "views.draw=[{kind: pad_crop}]", "seed=3"])
    settings = Recipe.model_validate(changed)
    assert (settings.attack.epsilon, settings.seed, settings.views.draw[0].kind) == (0.5, 3, "pad_crop")
    assert recipe["attack"]["epsilon"] == 2.0
