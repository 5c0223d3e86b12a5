"""Reports of prepared clean sets, and of more classes than a page shows at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from html_page import cells, checked_page, section, text_of
from PIL import Image

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.manifest import read_manifest, write_manifest
from dad_datasets.preparing import prepare_shards
from dad_datasets.reporting.class_counts import ClassCounts
from dad_datasets.reporting.classes_section import FIRST, MOST, classes_section
from dad_datasets.reporting.opening import report_page
from dad_datasets.reporting.page import page
from dad_datasets.sources import SourceSettings

CLASSES = {"<i>ant": 4, "bee & co": 2}


@pytest.fixture
def prepared(tmp_path: Path) -> LocalFolder:
    """Six pictures in units of two, one of which cannot be decoded, and one file that is no picture at all."""
    root = tmp_path / "photos"
    for name, count in CLASSES.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (200, 100), (40 * number, 0, 0)).save(root / name / f"{number}.png")
    (root / "<i>ant" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    (root / "<i>ant" / "9.png").write_bytes(b"<html>")
    folder = LocalFolder(tmp_path / "out")
    prepare_shards(SourceSettings(path=str(root)), folder, samples_per_shard=2)
    return folder


def test_a_prepared_set(prepared: LocalFolder) -> None:
    root = checked_page(report_page(prepared, name="my <set>", baseline=None))
    assert text_of(next(root.iter("h1"))) == "my <set>"
    assert cells(next(section(root, "Images by class").iter("table")))[1:] == [
        ["<i>ant", "4", "66.67"],
        ["bee & co", "2", "33.33"],
    ]
    failures = section(root, "Failures")
    assert "1 of 7 samples failed" in text_of(failures)
    assert cells(next(failures.iter("table")))[1:] == [["unknown image type", "1"]]
    shown = [image.get("alt") for image in section(root, "Pictures").iter("img")]
    assert sorted(map(str, shown)) == ["<i>ant"] * 3 + ["bee & co"] * 2
    assert {image.get("width") for image in root.iter("img")} == {"200"}


def test_a_shard_without_a_usable_image_costs_nothing(tmp_path: Path) -> None:
    root = tmp_path / "photos/ant"
    root.mkdir(parents=True)
    Image.new("RGB", (20, 10)).save(root / "0.png")
    (root / "1.png").write_bytes(b"")
    folder = LocalFolder(tmp_path / "out")
    prepare_shards(SourceSettings(path=str(root.parent)), folder, samples_per_shard=1)
    page = checked_page(report_page(folder, name="set", baseline=None))
    assert [image.get("alt") for image in section(page, "Pictures").iter("img")] == ["ant"]


def test_shards_that_are_gone_cost_the_pictures_alone(prepared: LocalFolder) -> None:
    for tar in (prepared.path / "shards").iterdir():
        tar.unlink()
    root = checked_page(report_page(prepared, name="set", baseline=None))
    assert "No pictures:" in text_of(section(root, "Pictures"))


def test_labels_have_no_report_of_their_own(prepared: LocalFolder) -> None:
    recipe = dict.fromkeys(("source", "store", "views", "samples_per_shard"))
    write_manifest(prepared, read_manifest(prepared).model_copy(update={"kind": "labels", "recipe": recipe}))
    with pytest.raises(UserError, match="holds labels of another dataset"):
        report_page(prepared, name="set", baseline=None)


def test_many_classes_stay_readable(prepared: LocalFolder) -> None:
    counts = ClassCounts()
    labels = np.arange(3000, dtype=np.int64)
    counts.add(labels, labels, np.where(labels == 7, -1, labels))
    manifest = read_manifest(prepared).model_copy(update={"class_names": None})
    root = checked_page(page("a", "b", "c", [], [classes_section(manifest, counts)]))
    first, rest = (cells(table) for table in root.iter("table"))
    assert first[1][:4] == ["class 7", "1", "100.0", "0.0"]
    assert (len(first) - 1, len(rest) - 1) == (FIRST, MOST - FIRST)
    assert "of 2,980" in text_of(next(root.iter("summary")))
