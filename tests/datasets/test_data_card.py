"""The data card: a YAML header and Markdown that nothing in the recipe can break."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import Any

import datasets
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dad_datasets.card_settings import CardSettings
from dad_datasets.clean_card import clean_card
from dad_datasets.data_card import data_card
from dad_datasets.errors import UserError
from dad_datasets.hugging_face import MOST_CLASS_NAMES, features, size_category
from dad_datasets.manifest import Manifest
from dad_datasets.reporting.clean_figures import CleanFigures
from dad_datasets.settings import build_settings
from dad_datasets.summary import DatasetSummary, Mean

COLUMNS = ("key", "label", "image_offset", "cls_offset", "teacher_offset", "codes_offset", "json_offset")


def manifest(card: dict[str, Any] | None = None, names: tuple[str, ...] | None = ("cat", "dog")) -> Manifest:
    recipe: dict[str, Any] = {
        "source": {"path": "photos/train"},
        "views": {"size": 224, "draw": [{"kind": "centre"}, {"kind": "pad_crop", "count": 2, "attack": False}]},
        "teacher": {"kind": "timm", "architecture": "resnet50", "checkpoint": "weights/a|b.pt"},
        "quantizer": {"checkpoint": "weights/vqgan.ckpt"},
        "attack": {"preset": "strong", "norm": "linf", "epsilon": 8 / 255, "step_size": 2 / 255, "steps": 5},
        "store": {"image": "webp"},
        "samples_per_shard": 10,
    }
    return Manifest(
        kind="adversarial",
        state="finished",
        fingerprint="f" * 64,
        fingerprinted={"weights": {"teacher": "a" * 64, "quantizer": "b" * 64}},
        recipe=recipe if card is None else {**recipe, "card": card},
        class_names=names,
        num_classes=2 if names is None else len(names),
        shards=3,
        samples=1200,
        clean_sha256="c" * 64,
    )


def summary() -> DatasetSummary:
    means = {"teacher accuracy, adversarial": Mean(600, 1200), "PSNR, VQGAN alone": Mean(36000, 1200)}
    return DatasetSummary(units=3, images=1200, status=Counter(ok=1200), reasons=Counter(), means=means)


def split(text: str) -> tuple[dict[str, Any], str]:
    """The header and the rest."""
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body


def test_the_header_is_what_hugging_face_reads() -> None:
    header, body = split(data_card(manifest({"license": "cc-by-4.0", "pretty_name": "P"}), summary(), columns=COLUMNS))
    assert header["license"] == "cc-by-4.0"
    assert header["pretty_name"] == "P"
    assert header["task_categories"] == ["image-classification"]
    assert header["size_categories"] == ["1K<n<10K"]
    assert header["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "shards/*.tar"}]}]
    loaded = datasets.Features._from_yaml_list(header["dataset_info"]["features"])
    assert loaded["webp"] == datasets.Image()
    assert loaded["cls"] == datasets.ClassLabel(names=["cat", "dog"])
    assert loaded["codes.npy"].feature.feature == datasets.Value("uint16")
    assert body.startswith("\n# P\n")


def test_figures_origins_and_limits_are_said() -> None:
    card = {
        "source": {"name": "Photos", "license": "CC BY 4.0", "url": "https://example.org/photos"},
        "teacher": {"license": "MIT"},
        "notes": "Taken in *2019*.",
    }
    text = data_card(manifest(card), summary(), columns=COLUMNS)
    assert "1,200 adversarial views of 1,200 clean images, 2 classes, 3 shards" in text
    assert "| source | Photos | CC BY 4.0 | https://example.org/photos |  |" in text
    assert f"| teacher | resnet50 (timm) with weights/a\\|b.pt | MIT | not stated | `{'a' * 64}` |" in text
    assert "does not state the licence of: quantizer." in text
    assert "own licence: not stated" in text
    assert "right on 50.0% of the adversarial views" in text
    assert "round trip 30.0 dB" in text
    assert "Taken in *2019*." in text
    assert "linf ball of radius 0.03137, 5 steps of 0.007843" in text
    assert "1 × centre, 2 × pad crop (clean only)" in text
    assert "`codes.npy`" in text
    assert "`clean.webp`" not in text
    assert "`teacher_ids.npy`" not in text
    assert split(text)[0]["license"] == "unknown"


def test_the_recipe_can_be_run_again_from_the_card() -> None:
    found = manifest()
    found.recipe["class_names"] = ["a\n```\nb", "dog"]
    text = data_card(found, summary(), columns=COLUMNS)
    lines = iter(text.split("\n"))
    fence = next(line for line in lines if re.fullmatch("`{3,}yaml", line)).removesuffix("yaml")
    block = itertools.takewhile(
        lambda line: not re.fullmatch(f" {{0,3}}{fence}`*", line), lines
    )  # as CommonMark ends it
    assert yaml.safe_load("\n".join(block)) == found.recipe


@given(st.text(max_size=30), st.text(max_size=30))
@example("\x85", "|\n<b>")
@settings(max_examples=30, deadline=None)
def test_names_stay_on_their_line(pretty: str, source: str) -> None:
    card = {"pretty_name": f"x{pretty}", "source": {"name": f"y{source}"}}
    header, body = split(data_card(manifest(card), summary(), columns=COLUMNS))
    assert header["pretty_name"] == f"x{pretty}"
    (row,) = (line for line in body.split("\n") if line.startswith("| source | y"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6
    assert "<" not in row


def test_codes_alone_are_not_offered_as_images() -> None:
    header, body = split(data_card(manifest(), summary(), columns=("key", "teacher", "codes")))
    assert "configs" not in header
    assert "dad expand" in body


@pytest.mark.parametrize("names", [None, ("crane", "crane"), tuple(map(str, range(MOST_CLASS_NAMES + 1)))])
def test_labels_without_usable_names_are_numbers(names: tuple[str, ...] | None) -> None:
    assert {"name": "cls", "dtype": "int64"} in features(manifest(names=names), COLUMNS)


def test_size_categories_are_those_of_the_list() -> None:
    sizes = {0: "n<1K", 999: "n<1K", 1000: "1K<n<10K", 1_281_167: "1M<n<10M", 10**9: "1B<n<10B", 10**12: "n>1T"}
    assert {number: size_category(number) for number in sizes} == sizes


@pytest.mark.parametrize(
    ("card", "message"),
    [({"license": "CC BY 4.0"}, "license"), ({"licence": "mit"}, "licence"), ({"pretty_name": ""}, "pretty_name")],
)
def test_mistakes_in_the_card_section(card: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_settings(CardSettings, card, origin="recipe")


def test_a_note_on_how_it_was_made_stands_under_its_heading() -> None:
    text = data_card(manifest(), summary(), columns=COLUMNS, note="Decoded on a *Tuesday*.")
    _, section = text.split("## How it was made\n", 1)
    assert "Decoded on a *Tuesday*." in section.split("\n## ")[0]
    assert "\n\n\n" not in data_card(manifest(), summary(), columns=COLUMNS)


@given(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=30, deadline=None)
def test_nothing_in_the_source_s_path_breaks_a_prepared_set_s_card(path: str, name: str) -> None:
    prepared = manifest(names=(name, f"{name}."))
    prepared.recipe["source"]["path"] = f"x{path}"
    header, body = split(clean_card(prepared, CleanFigures(images=12, failed=2), ["jpg", "webp"]))
    loaded = datasets.Features._from_yaml_list(header["dataset_info"]["features"])
    assert loaded["cls"].names == [name, f"{name}."]
    assert (loaded["jpg"], loaded["webp"]) == (datasets.Image(), datasets.Image())
    assert "<" not in body.replace("`<", "")
    (sentence,) = (line for line in body.split("\n") if line.startswith("12 images of 2 classes"))
    assert "as they were in x" in sentence
