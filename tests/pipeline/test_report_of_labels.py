"""`dad report` on a set with labels of other teachers, against the labels' own indexes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from html_page import cells, checked_page, section, text_of
from tiny_labels import label, label_recipe
from tiny_run import RawRecipe, run_recipe, tiny_recipe, write_images

from dad_datasets.folder import LocalFolder
from dad_datasets.reporting.opening import report_page


@pytest.fixture(scope="module")
def raw(quantizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RawRecipe:
    """With a view that is not attacked, and an image that is none."""
    images = write_images(tmp_path_factory.mktemp("clean") / "tiny")
    (images / "class1/broken.png").write_bytes(b"no image")
    recipe = tiny_recipe(images, quantizer_folder)
    recipe["views"]["draw"] += [{"kind": "pad_crop", "attack": False}]
    return recipe | {"max_failure_rate": 0.5}


@pytest.fixture(scope="module")
def labelled(raw: RawRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled by the set's own teacher over again, and by another."""
    out = tmp_path_factory.mktemp("labelled") / "set"
    complete, screen = run_recipe(raw, out)
    assert complete, screen
    label(out, label_recipe(raw, teacher=raw["teacher"]), "again")
    screen = label(out, label_recipe(raw), "other")
    assert "same class as the set's own, adversarial" in screen
    return out


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("index/*.parquet")) for row in pq.read_table(path).to_pylist()]


def share(hits: list[bool]) -> str:
    return f"{100 * sum(hits) / len(hits):.1f}"


def test_each_teacher_s_accuracy_and_how_often_it_agrees_with_the_stored_one(labelled: Path) -> None:
    shown = section(checked_page(report_page(LocalFolder(labelled), name="set", baseline=None)), "Labels")
    head, again, own, other, own_again = cells(next(shown.iter("table")))
    assert head == [
        "labels",
        "teacher",
        "views",
        "right, clean",
        "right, adversarial",
        "same, clean",
        "same, adversarial",
    ]
    assert [row[0] for row in (again, own, other, own_again)] == [
        "again",
        "stored in the set",
        "other",
        "stored in the set",
    ]
    assert again[1:5] == own[1:5] == own_again[1:5]
    assert again[5:] == ["100.0", "100.0"], "the same teacher on the same pixels"
    pairs = list(zip(rows_of(labelled / "labels/other"), rows_of(labelled), strict=True))
    assert len(pairs) == 75
    expected: list[str] = []
    for figure in ("right", "same"):
        for column in ("teacher_clean_top1", "teacher_adv_top1"):
            hits = [
                new[column] == (stored["label"] if figure == "right" else stored[column])
                for new, stored in pairs
                if stored[column] is not None
            ]
            assert len(hits) == (72 if column == "teacher_clean_top1" else 48)
            expected.append(share(hits))
    assert other == ["other", "test_resnet (timm) with random weights", "72", *expected]


def test_labels_that_cannot_be_used_are_named_with_the_reason(labelled: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(labelled, tmp_path / "set"))
    manifest = json.loads((copy / "labels/again/manifest.json").read_text())
    (copy / "labels/again/manifest.json").write_text(json.dumps(manifest | {"state": "running"}))
    (copy / "labels/other/index/tiny-00001.parquet").unlink()
    shown = section(checked_page(report_page(LocalFolder(copy), name="set", baseline=None)), "Labels")
    assert not list(shown.iter("table"))
    assert "The labels again cannot be used:" in text_of(shown)
    assert "is not finished; run `dad label` again" in text_of(shown)
    assert "tiny-00001.parquet: the index is missing" in text_of(shown)


def test_the_report_in_the_dataset_stays_without_them(raw: RawRecipe, labelled: Path) -> None:
    before = (labelled / "report.html").read_bytes()
    complete, _ = run_recipe(raw, labelled)
    assert complete
    assert (labelled / "report.html").read_bytes() == before
    assert b">Labels<" not in before
