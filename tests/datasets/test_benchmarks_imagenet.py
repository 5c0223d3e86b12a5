"""ImageNet's benchmarks on generated miniatures in the layouts in which they are published."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_miniatures import IMAGENET, SUBSET, WNIDS, assert_colours_say_the_labels, opened, settings_of
from coded_images import coded_png, write_folders
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from dad_datasets import corruptions
from dad_datasets.benchmarks import Condition, StudentClasses
from dad_datasets.benchmarks.corruption_names import ALEXNET_ERRORS, COMMON_NAMES, EXTRA_NAMES
from dad_datasets.benchmarks.evaluation_view import EvaluationView
from dad_datasets.benchmarks.settings import ImageNetCBenchmark
from dad_datasets.errors import UserError


@pytest.fixture(scope="module")
def imagenet_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("val"), {wnid: i for i, wnid in enumerate(WNIDS)})


@settings(deadline=None)
@given(
    size=st.integers(4, 40),
    fraction=st.sampled_from([1.0, 0.95, 0.875, 0.5]),
    width=st.integers(4, 90),
    height=st.integers(4, 90),
    resize=st.sampled_from(["bilinear", "bicubic"]),
)
def test_the_view_is_that_of_torchvision(size: int, fraction: float, width: int, height: int, resize: Any) -> None:
    pixels = np.random.default_rng(width * 100 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    mode = transforms.InterpolationMode(resize)
    oracle = transforms.Compose([transforms.Resize(int(size / fraction), mode), transforms.CenterCrop(size)])
    canvas = EvaluationView(size=size, fraction=fraction, resize=resize).canvas(image)
    np.testing.assert_array_equal(canvas, np.asarray(oracle(image)))


def test_the_names_are_those_of_our_corruptions() -> None:
    assert set(COMMON_NAMES) == set(corruptions.COMMON) == set(ALEXNET_ERRORS)
    assert set(EXTRA_NAMES) == set(corruptions.EXTRA)


@pytest.mark.parametrize(
    ("name", "by_severity"),
    [  # AlexNet's errors at each severity, from timm's development branch
        ("gaussian_noise", (0.69528, 0.82542, 0.93554, 0.98138, 0.99452)),
        ("shot_noise", (0.71224, 0.85108, 0.93574, 0.98182, 0.99146)),
        ("impulse_noise", (0.78374, 0.89808, 0.9487, 0.9872, 0.99548)),
        ("defocus_blur", (0.65624, 0.73202, 0.85036, 0.91364, 0.94714)),
        ("glass_blur", (0.64308, 0.75054, 0.88806, 0.91622, 0.93344)),
        ("motion_blur", (0.5843, 0.70048, 0.82108, 0.8975, 0.92638)),
        ("zoom_blur", (0.70008, 0.76992, 0.80784, 0.84198, 0.87198)),
        ("snow", (0.71726, 0.88392, 0.86468, 0.9187, 0.94952)),
        ("frost", (0.6139, 0.79734, 0.8879, 0.89942, 0.9343)),
        ("fog", (0.67474, 0.7605, 0.84378, 0.8726, 0.945)),
        ("brightness", (0.4514, 0.48502, 0.54048, 0.62166, 0.7244)),
        ("contrast", (0.64548, 0.7615, 0.88874, 0.9776, 0.9927)),
        ("elastic_transform", (0.52596, 0.70116, 0.55686, 0.64076, 0.80554)),
        ("pixelate", (0.52218, 0.5462, 0.73728, 0.87092, 0.91262)),
        ("jpeg_compression", (0.51002, 0.54718, 0.57294, 0.65458, 0.74778)),
    ],
)
def test_alexnets_errors_are_the_means_over_the_severities(name: str, by_severity: Sequence[float]) -> None:
    assert ALEXNET_ERRORS[name] == pytest.approx(sum(by_severity) / 5, abs=1e-9)


@pytest.mark.parametrize("kind", ["imagenet_val", "imagenet_sketch", "imagenet_stylized"])
def test_a_thousand_wordnet_ids(imagenet_root: Path, kind: str) -> None:
    benchmark = opened(IMAGENET, kind=kind, path=str(imagenet_root))
    assert benchmark.groups is None
    keys = assert_colours_say_the_labels(benchmark, Condition(), 1000)
    assert keys != sorted(keys), "the first images must be a draw from all classes"
    first = opened(IMAGENET, kind=kind, path=str(imagenet_root), max_images=7)
    assert assert_colours_say_the_labels(first, Condition(), 7) == keys[:7]


def test_imagenet_v2s_folders_are_numbers(tmp_path: Path) -> None:
    write_folders(tmp_path, {str(index): index for index in range(1000)})
    assert_colours_say_the_labels(opened(IMAGENET, kind="imagenet_v2", path=str(tmp_path)), Condition(), 1000)
    with pytest.raises(UserError, match=r"benchmark b: folder 0 in .* is no class; expected WordNet ids"):
        opened(IMAGENET, kind="imagenet_val", path=str(tmp_path))


@pytest.mark.parametrize("kind", ["imagenet_a", "imagenet_r"])
def test_two_hundred_classes_mask_the_others(tmp_path: Path, kind: str) -> None:
    write_folders(tmp_path, SUBSET, images=2)
    (tmp_path / "README.txt").touch()
    benchmark = opened(IMAGENET, kind=kind, path=str(tmp_path))
    assert benchmark.groups == tuple((index,) for index in sorted(SUBSET.values()))
    assert_colours_say_the_labels(benchmark, Condition(), 400)
    (tmp_path / WNIDS[0]).mkdir()
    with pytest.raises(UserError, match="has 201 class folders; published are 200"):
        opened(IMAGENET, kind=kind, path=str(tmp_path))


def test_wrong_students_and_folders_are_named(imagenet_root: Path, tmp_path: Path) -> None:
    path = str(imagenet_root)
    with pytest.raises(UserError, match="benchmark b: needs a student with ImageNet's 1000 classes; it has 10"):
        opened(StudentClasses(count=10), kind="imagenet_val", path=path)
    with pytest.raises(UserError, match="in an order of its own"):
        opened(StudentClasses(count=1000, names=WNIDS[::-1]), kind="imagenet_val", path=path)
    opened(StudentClasses(count=1000, names=WNIDS), kind="imagenet_val", path=path)
    with pytest.raises(UserError, match="there is no folder"):
        opened(IMAGENET, kind="imagenet_val", path=str(tmp_path / "none"))
    write_folders(tmp_path, {str(index): index for index in range(999)})
    with pytest.raises(UserError, match="has 999 class folders; published are 1000"):
        opened(IMAGENET, kind="imagenet_v2", path=str(tmp_path))
    (tmp_path / "999").mkdir()
    with pytest.raises(UserError, match=r"folder .*/999 holds no image"):
        len(opened(IMAGENET, kind="imagenet_v2", path=str(tmp_path)).stored[Condition()])


def test_imagenet_c_has_its_conditions(tmp_path: Path) -> None:
    classes = {wnid: i for i, wnid in enumerate(WNIDS)}
    for folder in ("fog/1", "fog/3"):
        write_folders(tmp_path / folder, classes)
    raw: dict[str, Any] = {"kind": "imagenet_c", "path": str(tmp_path), "corruptions": ["fog"], "severities": [1, 3]}
    benchmark = opened(IMAGENET, image_size=224, **raw)
    assert benchmark.conditions == tuple(Condition(corruption="fog", severity=s) for s in (1, 3))
    assert benchmark.required_size == 224
    assert benchmark.view.fraction == 1
    assert benchmark.reference_errors is None, "AlexNet's errors are means over all severities of all corruptions"
    assert_colours_say_the_labels(benchmark, Condition(corruption="fog", severity=3), 1000)
    with pytest.raises(UserError, match="have 224 pixels, the student takes 288; set rescale"):
        opened(IMAGENET, image_size=288, **raw)
    assert opened(IMAGENET, image_size=288, rescale=True, **raw).view.size == 288
    with pytest.raises(UserError, match=r"there is no folder .*/fog/2"):
        opened(IMAGENET, image_size=224, **{**raw, "severities": [1, 2, 3]})


@pytest.mark.parametrize(
    ("raw", "referred"),
    [
        ({}, True),
        ({"corruptions": "all"}, True),
        ({"corruptions": "extra"}, False),
        ({"corruptions": list(COMMON_NAMES[1:])}, False),
        ({"severities": [1, 2, 3, 4]}, False),
    ],
)
def test_alexnet_is_the_reference_of_the_whole_set_only(raw: dict[str, Any], referred: bool) -> None:
    settings = settings_of(kind="imagenet_c", path="x", **raw)
    assert isinstance(settings, ImageNetCBenchmark)
    assert settings.reference_errors == (dict(ALEXNET_ERRORS) if referred else None)


@pytest.fixture
def objectnet(tmp_path: Path) -> Path:
    """313 folders, 113 of which stand for ImageNet classes: class i for 8 i, every third for 8 i + 1 too."""
    labels = [f"Label {number}" for number in range(313)]
    folders = {label: label.lower().replace(" ", "_") for label in labels}
    line_of_index = {str(index): 999 - index for index in range(1000)}
    imagenet_labels = [f"thing {999 - line}, a synonym" for line in range(1000)]

    def indices(number: int) -> tuple[int, ...]:
        return (8 * number, 8 * number + 1) if number % 3 == 0 else (8 * number,)

    mappings = tmp_path / "mappings"
    mappings.mkdir()
    overlap = {
        labels[number]: "; ".join(f"thing {index}, a synonym" for index in indices(number)) for number in range(113)
    }
    (mappings / "folder_to_objectnet_label.json").write_text(json.dumps({f: label for label, f in folders.items()}))
    (mappings / "objectnet_to_imagenet_1k.json").write_text(json.dumps(overlap))
    (mappings / "pytorch_to_imagenet_2012_id.json").write_text(json.dumps(line_of_index))
    (mappings / "imagenet_to_label_2012_v2").write_text("\n".join(imagenet_labels) + "\n")
    for number, label in enumerate(labels):
        image = Image.new("RGB", (20, 16), (255, 0, 0))
        inner = Image.open(io.BytesIO(coded_png(indices(number)[-1] if number < 113 else 1, 16, 12)))
        image.paste(inner, (2, 2))
        (tmp_path / "images" / folders[label]).mkdir(parents=True)
        image.save(tmp_path / "images" / folders[label] / "a.png")
    return tmp_path


def test_objectnets_overlapping_classes_without_their_border(objectnet: Path) -> None:
    benchmark = opened(IMAGENET, kind="objectnet", path=str(objectnet), fraction=1.0)
    assert_colours_say_the_labels(benchmark, Condition(), 113)
    assert benchmark.groups is not None
    assert sorted(map(len, benchmark.groups)) == [1] * 75 + [2] * 38
    image = next(iter(benchmark.stored[Condition()])).load()
    assert image.size == (16, 12)
    assert len(image.getcolors() or ()) == 1, "no red pixel is left"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no mapping", "there is no readable .*/mappings/imagenet_to_label_2012_v2"),
        ("not JSON", "folder_to_objectnet_label.json is not a JSON mapping"),
        ("fewer classes", "has 112 classes; published are 113"),
        ("other labels", r"give ImageNet's 'thing \d+, a synonym' no index"),
        ("no folder", r"there is no folder .*/images/label_5"),
        ("no folder name", "gives 'Label 0' no folder"),
    ],
)
def test_objectnets_damage_is_named(objectnet: Path, damage: str, message: str) -> None:
    mappings = objectnet / "mappings"
    if damage == "no mapping":
        (mappings / "imagenet_to_label_2012_v2").unlink()
    elif damage == "not JSON":
        (mappings / "folder_to_objectnet_label.json").write_text("[1")
    elif damage == "fewer classes":
        overlap = json.loads((mappings / "objectnet_to_imagenet_1k.json").read_text())
        overlap.pop("Label 7")
        (mappings / "objectnet_to_imagenet_1k.json").write_text(json.dumps(overlap))
    elif damage == "other labels":
        (mappings / "imagenet_to_label_2012_v2").write_text("something\n" * 1000)
    elif damage == "no folder name":
        (mappings / "folder_to_objectnet_label.json").write_text("{}")
    else:
        (objectnet / "images" / "label_5" / "a.png").unlink()
        (objectnet / "images" / "label_5").rmdir()
    with pytest.raises(UserError, match=message):
        opened(IMAGENET, kind="objectnet", path=str(objectnet))
