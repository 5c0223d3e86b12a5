"""CIFAR-10-C and benchmarks of one's own images, and how classes, conditions and mistakes are told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_miniatures import assert_colours_say_the_labels, opened, settings_of
from coded_images import coded_png, write_folders

from dad_datasets.benchmarks import Condition, StudentClasses, cifar10_c
from dad_datasets.benchmarks.settings import Cifar10CBenchmark
from dad_datasets.errors import UserError


@pytest.fixture
def cifar_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images a severity instead of 10,000: image i of severity s has label i + s and says so."""
    monkeypatch.setattr(cifar10_c, "NUM_IMAGES", 3)
    labels = np.array([number + severity for severity in range(1, 6) for number in range(3)], np.uint8)
    pixels = np.zeros((15, 32, 32, 3), np.uint8)
    pixels[..., 1] = 8 * labels[:, None, None]
    np.save(tmp_path / "labels.npy", labels)
    for name in ("fog", "snow", "spatter"):
        np.save(tmp_path / f"{name}.npy", pixels)
    return tmp_path


def test_cifar10_c_is_cut_into_severities(cifar_c: Path) -> None:
    raw: dict[str, Any] = {
        "kind": "cifar10_c",
        "path": str(cifar_c),
        "corruptions": ["spatter", "fog"],
        "severities": [2, 5],
    }
    ten = StudentClasses(count=10)
    benchmark = opened(ten, image_size=32, **raw)
    assert [str(condition) for condition in benchmark.conditions] == ["fog 2", "fog 5", "spatter 2", "spatter 5"]
    for condition in benchmark.conditions:
        assert_colours_say_the_labels(benchmark, condition, 3)
        assert condition.severity is not None
        assert [image.label for image in benchmark.stored[condition]] == [condition.severity + i for i in range(3)]
    identities = {benchmark.stored[condition].identity() for condition in benchmark.conditions}
    assert len(identities) == 2
    with pytest.raises(UserError, match="needs a student with CIFAR-10's 10 classes; it has 11"):
        opened(StudentClasses(count=11), **raw)
    with pytest.raises(UserError, match=r"there is no .*gaussian_noise\.npy"):
        opened(ten, **{**raw, "corruptions": "common"})


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("labels.npy", np.zeros(15), r"holds float64 \(15,\); published is uint8 \(15,\)"),
        ("labels.npy", np.full(15, 10), "holds 10; labels of CIFAR-10 are 0 to 9"),
        ("fog.npy", np.zeros((15, 3, 32, 32), np.uint8), "published is uint8"),
        ("fog.npy", None, "fog.npy is not a NumPy array"),
        ("fog.npy", np.array([{}], dtype=object), "fog.npy is not a NumPy array"),
    ],
)
def test_damaged_arrays_of_cifar10_c_are_named(cifar_c: Path, name: str, array: Any, message: str) -> None:
    if array is None:
        (cifar_c / name).write_bytes(b"nothing")
    else:
        np.save(cifar_c / name, array)
    with pytest.raises(UserError, match=message):
        opened(StudentClasses(count=10), kind="cifar10_c", path=str(cifar_c), corruptions=["fog"])


def write_parquet(path: Path, labels: Sequence[int], names: Sequence[str] = ()) -> Path:
    images = [{"bytes": coded_png(label, 32, 32), "path": None} for label in labels]
    table = pa.table({"img": images, "label": list(labels)})
    if names:
        features = {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize("kind", ["cifar10", "clean", "corrupted"])
def test_parquet_as_a_clean_source(tmp_path: Path, kind: str) -> None:
    path = write_parquet(tmp_path / "test.parquet", [3, 9, 0, 3])
    benchmark = opened(StudentClasses(count=10), image_size=32, kind=kind, path=str(path))
    assert assert_colours_say_the_labels(benchmark, Condition(), 4) == [f"test/{row:06d}" for row in range(4)]
    assert len(benchmark.conditions) == (75 if kind == "corrupted" else 1)
    with pytest.raises(UserError, match=r"classes"):
        opened(StudentClasses(count=9), kind=kind, path=str(path))


def test_labels_are_mapped_by_name_or_number(tmp_path: Path) -> None:
    path = str(write_parquet(tmp_path / "test.parquet", [0, 1, 1, 2], ["ant", "bee", "cat"]))
    student = StudentClasses(count=4, names=("dog", "cat", "bee", "ant"))

    def labels(classes: dict[int | str, int | str]) -> list[int]:
        return [image.label for image in opened(student, kind="clean", path=path, classes=classes).stored[Condition()]]

    assert labels({"ant": "ant", "bee": 2, 2: "cat"}) == [3, 2, 2, 1]
    with pytest.raises(UserError, match="the source has no class 'eel'; it has ant, bee, cat"):
        labels({"eel": 0})
    with pytest.raises(UserError, match="the student has no class 'eel'; it has dog, cat"):
        labels({"ant": "eel"})
    with pytest.raises(UserError, match="has the classes 0 to 3, not 4"):
        labels({"ant": 4})
    with pytest.raises(UserError, match="label 1 of test/000001 is not in classes"):
        labels({"ant": 0})


def test_the_same_names_in_another_order_are_refused(tmp_path: Path) -> None:
    path = str(write_parquet(tmp_path / "test.parquet", [0, 1], ["ant", "bee"]))
    opened(StudentClasses(count=2, names=("ant", "bee")), kind="clean", path=path)
    opened(StudentClasses(count=2, names=("Ameise", "Biene")), kind="clean", path=path)
    with pytest.raises(UserError, match="class 0 is ant here and bee for the student"):
        opened(StudentClasses(count=2, names=("bee", "ant")), kind="clean", path=path)
    # The folder of the first class is not there; or one in between; or none has a name that the student knows.
    opened(StudentClasses(count=3, names=("ant", "bee", "cat")), kind="clean", path=path)
    for names in (("aardvark", "ant", "bee"), ("ant", "axolotl", "bee")):
        with pytest.raises(UserError, match=r"is (ant|bee) here and (aardvark|axolotl) for the student; map the names"):
            opened(StudentClasses(count=3, names=names), kind="clean", path=path)
    with pytest.raises(UserError, match=r"has the 2 classes ant, bee, the student 3 others, Biber, Dachs, Fuchs; map"):
        opened(StudentClasses(count=3, names=("Biber", "Dachs", "Fuchs")), kind="clean", path=path)


def test_folders_are_mapped_to_classes(tmp_path: Path) -> None:
    write_folders(tmp_path, {"robin": 1, "finch": 1, "tabby": 3, "rock": 9}, images=2)
    student = StudentClasses(count=4, names=("fish", "bird", "dog", "cat"))
    classes: dict[int | str, int | str] = {"robin": "bird", "finch": 1, "tabby": "cat"}
    raw: dict[str, Any] = {"kind": "folder", "path": str(tmp_path), "classes": classes}
    benchmark = opened(student, ignore_unmapped=True, **raw)
    assert benchmark.groups is None
    assert_colours_say_the_labels(benchmark, Condition(), 6)
    masked = opened(student, ignore_unmapped=True, mask=True, **raw)
    assert masked.groups == ((1,), (3,))
    assert_colours_say_the_labels(masked, Condition(), 6)
    with pytest.raises(UserError, match="folder rock has no class; map it in classes, or set ignore_unmapped"):
        opened(student, **raw)
    with pytest.raises(UserError, match="there is no folder wren for the mapping"):
        opened(student, **{**raw, "classes": {"wren": "bird"}})
    with pytest.raises(UserError, match="'bird' is a name, but the student's are not known"):
        opened(StudentClasses(count=4), **raw)


def test_changed_files_change_the_identity(tmp_path: Path) -> None:
    write_folders(tmp_path, {"0": 0, "1": 1})
    raw: dict[str, Any] = {"kind": "folder", "path": str(tmp_path), "classes": {0: 0, 1: 1}}
    before = opened(StudentClasses(count=2), **raw).stored[Condition()].identity()
    assert opened(StudentClasses(count=2), **raw).stored[Condition()].identity() == before
    (tmp_path / "1" / "another.png").write_bytes(coded_png(1, 8, 8))
    assert opened(StudentClasses(count=2), **raw).stored[Condition()].identity() != before


@pytest.mark.parametrize(("size", "strengths"), [(32, "cifar"), (64, "cifar"), (65, "imagenet")])
def test_strengths_follow_the_canvas(tmp_path: Path, size: int, strengths: str) -> None:
    path = str(write_parquet(tmp_path / "a.parquet", [0]))
    ten = StudentClasses(count=10)
    applied = opened(ten, image_size=size, kind="corrupted", path=path).applied
    assert applied is not None
    assert applied.strengths == strengths
    given_ = opened(ten, image_size=size, kind="corrupted", path=path, strengths="imagenet").applied
    assert given_ is not None
    assert given_.strengths == "imagenet"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            {"kind": "corrupted", "corruptions": ["fog", "smoke"]},
            r"corruptions.1 = 'smoke': should be 'gauss",
        ),
        ({"kind": "corrupted", "corruptions": "smoke"}, r"corruptions.0 = 'smoke': should be 'gauss"),
        ({"kind": "corrupted", "corruptions": []}, "at least one"),
        ({"kind": "corrupted", "severities": [0]}, r"severities.0 = 0: should be greater than or equal to 1"),
        (
            {"kind": "corrupted", "severities": [2, 2]},
            r"severities = \[2, 2\]: expected at least one, and each",
        ),
        ({"kind": "corrupted", "reference_errors": {"fog": 0.5}}, "must name the corruptions that count"),
        ({"kind": "imagenet_d"}, "imagenet_d"),
        ({"kind": "clean", "fractoin": 1.0}, "unknown field; did you mean fraction"),
        ({"kind": "folder"}, "classes: is required"),
    ],
)
def test_mistakes_in_a_recipe_are_one_line(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        settings_of(path="x", **raw)
    assert "\n" not in str(caught.value)
    assert "more mistake" not in str(caught.value)


@pytest.mark.parametrize(("word", "count"), [("common", 15), ("extra", 4), ("all", 19), ("fog", 1)])
def test_one_word_stands_for_a_group_of_corruptions(word: str, count: int) -> None:
    settings = settings_of(kind="cifar10_c", path="x", corruptions=word)
    assert isinstance(settings, Cifar10CBenchmark)
    assert len(settings.corruption_names) == count
