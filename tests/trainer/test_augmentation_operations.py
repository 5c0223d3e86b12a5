"""Each augmentation is what it says it is, and timm's where it has timm's name."""

from __future__ import annotations

import math
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
import torch
from augmentation_cases import (
    ADVERSARIAL,
    CLEAN,
    build,
    draws,
)
from PIL import Image
from timm.data import auto_augment, random_erasing

from dad_datasets.errors import UserError
from dad_datasets.settings import build_settings
from dad_datasets.views import Canvas
from dad_trainer.augment import Augmentation, AugmentSettings
from dad_trainer.augment.erasing import draw_box
from dad_trainer.augment.operations import PUBLISHED_OPERATIONS, TIMM_OPERATIONS, OperationName
from dad_trainer.augment.rand_augment import rand_augment


def test_a_padded_crop_is_any_window_of_the_padded_image() -> None:
    padded = np.pad(ADVERSARIAL, ((2, 2), (2, 2), (0, 0)))
    windows = {padded[y : y + 32, x : x + 32].tobytes() for y, x in product(range(5), repeat=2)}
    assert {image.tobytes() for image in draws({"crop_padding": 2}, 400, ADVERSARIAL)} == windows


def test_a_flip_mirrors_left_and_right_as_often_as_asked() -> None:
    mirrored = [np.array_equal(image, CLEAN[:, ::-1]) for image in draws({"flip": 0.3}, 1000)]
    kept = [np.array_equal(image, CLEAN) for image in draws({"flip": 0.3}, 1000)]
    assert sum(mirrored) + sum(kept) == 1000
    assert sum(mirrored) == pytest.approx(300, abs=4 * math.sqrt(1000 * 0.3 * 0.7))


def test_a_resized_crop_shows_a_box_of_the_asked_area_and_ratio() -> None:
    size = 128
    places = np.arange(size, dtype=np.uint8)
    image: Canvas = np.stack([*np.meshgrid(places, places), np.zeros((size, size), np.uint8)], axis=2)
    crop = {"scale": [0.3, 0.6], "ratio": [0.8, 1.5], "interpolation": "nearest"}
    areas, ratios = [], []
    for drawn in draws({"resized_crop": crop}, 200, image):
        left, top = (int(place) for place in drawn[0, 0, :2])
        right, bottom = (int(place) + 1 for place in drawn[-1, -1, :2])
        areas.append((right - left) * (bottom - top) / size**2)
        ratios.append((right - left) / (bottom - top))
        by_pillow = Image.fromarray(image[top:bottom, left:right]).resize((size, size), Image.Resampling.NEAREST)
        assert np.array_equal(drawn, np.asarray(by_pillow))
    assert [min(areas), max(areas)] == pytest.approx([0.3, 0.6], abs=0.03)
    assert [min(ratios), max(ratios)] == pytest.approx([0.8, 1.5], abs=0.05)


def test_rand_augment_does_what_its_string_says() -> None:
    recipe = {"rand_augment": "rand-m9-n1-p1", "rand_augment_operations": ["Rotate"]}
    augment = build(recipe, mean=(1.0, 0.0, 0.2))
    by_pillow = {
        Image.fromarray(ADVERSARIAL).rotate(degrees, resample, fillcolor=(255, 0, 51)).tobytes()
        for degrees in (-27, 27)
        for resample in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    }
    drawn = {augment([ADVERSARIAL], epoch=0, key=str(i), view=0)[0].tobytes() for i in range(60)}
    assert drawn == by_pillow


def test_rand_augment_keeps_to_the_operations_that_it_is_given() -> None:
    transform: Any = rand_augment("rand-m9-mstd0.5-inc1", PUBLISHED_OPERATIONS, fill=(0, 0, 0))
    assert [op.name for op in transform.ops] == list(PUBLISHED_OPERATIONS)
    by_its_string: Any = rand_augment("rand-m9-mstd0.5-inc1", None, fill=(0, 0, 0))
    assert {"ContrastIncreasing", "BrightnessIncreasing"} < {op.name for op in by_its_string.ops}


@pytest.mark.parametrize("name", get_args(OperationName))
def test_every_operation_runs_at_every_magnitude(name: OperationName) -> None:
    for magnitude in (0, 1, 5, 10, 30):
        recipe = {"rand_augment": f"rand-m{magnitude}-n1-p1-mmax30", "rand_augment_operations": [name]}
        build(recipe)([CLEAN], epoch=0, key="a", view=0)


def test_the_strongest_posterize_keeps_a_bit() -> None:
    recipe = {"rand_augment": "rand-m10-n1-p1", "rand_augment_operations": ["PosterizeIncreasing"]}
    (image,) = build(recipe)([ADVERSARIAL], epoch=0, key="a", view=0)
    assert np.array_equal(image, ADVERSARIAL & 128)
    in_a_mix: dict[str, Any] = {"severity": 10, "operations": ["PosterizeIncreasing", "Posterize"]}
    assert len(draws({"aug_mix": in_a_mix}, 30)) == 30  # without an error; magnitudes from 0 to 10


@pytest.mark.parametrize(("width", "depth"), [(1, 1), (3, 1), (2, 3)])
def test_aug_mix_blends_the_chains_with_the_image(width: int, depth: int) -> None:
    recipe = {"aug_mix": {"width": width, "depth": depth, "operations": ["Invert"]}}  # odd numbers of it are one
    shares = []
    for image in draws(recipe, 200):
        share = image[0, 0, 0] / 255  # black there in x, white in every chain
        expected = (1 - share) * CLEAN + share * (255.0 - CLEAN)
        # timm cuts to integers twice: 2 for the pixel itself, 2 for the one that the share was read from.
        assert np.abs(image - expected).max() <= 4
        shares.append(share)
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / 200) + 1 / 255)  # Beta(1, 1) is uniform
    assert np.var(shares) == pytest.approx(1 / 12, rel=0.25)


def test_aug_mix_chains_have_the_asked_depth() -> None:
    twice_inverted = {"aug_mix": {"depth": 2, "operations": ["Invert"]}}
    assert all(np.abs(image.astype(int) - CLEAN).max() <= 2 for image in draws(twice_inverted, 20))
    of_any_depth = {"aug_mix": {"width": 1, "operations": ["Invert"]}}
    whole = [image[0, 0, 0] == 0 for image in draws(of_any_depth, 300)]
    assert np.mean(whole) == pytest.approx(1 / 3, abs=0.12)  # depth 2 of 1, 2, 3


def test_aug_mix_magnitudes_are_uniform_up_to_the_severity() -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    # With this alpha the image and its only chain have half the weight each; brightness is 0.1 + 0.18 * magnitude.
    recipe = {"aug_mix": {"severity": 5, "width": 1, "depth": 1, "alpha": 1e6, "operations": ["Brightness"]}}
    magnitudes = [(image[0, 0, 0] / 50 - 1 - 0.1) / 0.18 for image in draws(recipe, 300, grey)]
    assert [min(magnitudes), np.mean(magnitudes), max(magnitudes)] == pytest.approx([0, 2.5, 5], abs=0.35)


def test_the_sets_of_operations_are_those_of_paper_and_timm() -> None:
    assert set(TIMM_OPERATIONS) == set(auto_augment._AUGMIX_TRANSFORMS)
    assert set(get_args(OperationName)) == set(auto_augment.NAME_TO_OP) - {"TranslateX", "TranslateY"}
    assert not any(word in name for name in PUBLISHED_OPERATIONS for word in ("Bright", "Color", "Sharp", "Blur"))
    assert "ContrastIncreasing" not in PUBLISHED_OPERATIONS
    named = build_settings(AugmentSettings, {"aug_mix": {"operations": "timm"}}, origin="recipe").aug_mix
    assert named is not None
    assert named.operations == TIMM_OPERATIONS


class TimmsRandom:
    """The module `random` as timm's erasing uses it, drawing from a numpy generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.uniform, self._rng = rng.uniform, rng

    def random(self) -> float:
        return 0.0  # always erase

    def randint(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high + 1))


def test_boxes_are_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, (height, width) in product(range(40), [(32, 32), (20, 45), (4, 4), (2, 2), (1, 1)]):
        monkeypatch.setattr(random_erasing, "random", TimmsRandom(np.random.default_rng(seed)))
        by_timm = random_erasing.RandomErasing(probability=1, device="cpu")(torch.ones(1, height, width))[0] == 0
        box = draw_box(height, width, np.random.default_rng(seed))
        by_us = torch.zeros(height, width, dtype=torch.bool)
        if box is not None:
            by_us[box[1] : box[3], box[0] : box[2]] = True
        assert torch.equal(by_us, by_timm)


def test_erasing_fills_one_box_alike_in_both_images() -> None:
    augment = build({"erasing": 1, "erasing_mode": "const"}, mean=(1.0, 0.0, 0.2))
    for i in range(50):
        clean, adversarial = augment([CLEAN, ADVERSARIAL], epoch=0, key=str(i), view=0)
        erased = (adversarial == (255, 0, 51)).all(axis=2)
        rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
        assert erased.sum() == len(rows) * len(columns) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert 0.01 < erased.mean() < 0.36
        assert (clean[erased] == (255, 0, 51)).all()
        assert np.array_equal(clean[~erased], CLEAN[~erased])
        assert np.array_equal(adversarial[~erased], ADVERSARIAL[~erased])


def test_erased_pixels_are_the_students_normal_noise() -> None:
    augment = build({"erasing": 1}, mean=(0.5, 0.4, 0.6), std=(0.1, 0.05, 0.02))
    black, white = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)
    noise = []
    for i in range(30):
        first, second = augment([black, white], epoch=0, key=str(i), view=0)
        erased = (first == second).all(axis=2)
        noise.append(first[erased] / 255)
    pixels = np.concatenate(noise)
    assert pixels.mean(axis=0) == pytest.approx([0.5, 0.4, 0.6], abs=0.005)
    assert pixels.std(axis=0) == pytest.approx([0.1, 0.05, 0.02], rel=0.05)


def test_erasing_happens_as_often_as_asked() -> None:
    kept = [np.array_equal(image, CLEAN) for image in draws({"erasing": 0.25}, 1000)]
    assert sum(kept) == pytest.approx(750, abs=4 * math.sqrt(1000 * 0.25 * 0.75))


def test_nothing_happens_unless_asked_for() -> None:
    settings = AugmentSettings()
    assert (settings.mixup, settings.cutmix) == (0, 0)
    first, second = Augmentation(settings, 0)([CLEAN, ADVERSARIAL], epoch=0, key="a", view=0)
    assert first is CLEAN
    assert second is ADVERSARIAL


@pytest.mark.parametrize(
    "config",
    ["rand", "rand-m9-mstd0.5-inc1", "rand-m15-n10-mmax30", "rand-p0.5-tweights", "rand-p1.0-t3a", "rand-mstd101"],
)
def test_timms_strings_are_taken(config: str) -> None:
    build({"rand_augment": config})([CLEAN], epoch=0, key="a", view=0)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"rand_augment": "augmix-m3"}, "rand_augment = 'augmix-m3': expected timm's RandAugment, which begins with"),
        ({"rand_augment": "rand-m9-x3"}, "rand_augment = 'rand-m9-x3': -x3 is none of -m<integer>, -n<1 to 10>"),
        ({"rand_augment": "rand-m9.5"}, "-m9.5 is none of"),
        ({"rand_augment": "rand-n0"}, "-n0 is none of"),
        ({"rand_augment": "rand-p1.5"}, "-p1.5 is none of"),
        ({"rand_augment": "rand-inc"}, "-inc is none of"),
        ({"rand_augment": "rand-tfoo"}, "-tfoo is none of .*-tweights, -t3a, -t3aw"),
        ({"rand_augment": ""}, "begins with rand"),
        ({"rand_augment_operations": ["Rotate"]}, "needs rand_augment"),
        ({"rand_augment": "rand-t3a", "rand_augment_operations": ["Rotate"]}, "give only one of the two"),
        (
            {"rand_augment": "rand-m9", "rand_augment_operations": ["Rotat"]},
            r"rand_augment_operations.0 = 'Rotat': should be 'AutoContrast', .*'Rotate'",
        ),
        ({"rand_augment": "rand-m9", "rand_augment_operations": []}, "rand_augment_operations"),
        ({"aug_mix": {"operations": "paper"}}, "operations = 'paper': expected published, timm, or a list .* Rotate"),
        ({"aug_mix": {"operations": ["Cutout"]}}, r"aug_mix.operations.0 = 'Cutout': should be 'AutoContrast', "),
        ({"aug_mix": {"operations": ["TranslateX"]}}, "should be 'AutoContrast', .*'TranslateXRel'"),
        ({"aug_mix": {"severity": 11}}, "aug_mix.severity = 11: should be less than or equal to 10"),
        ({"aug_mix": {"depth": -1}}, "aug_mix.depth = -1"),
        ({"erasing": 1.5}, "erasing = 1.5"),
        ({"erasing_mode": "rand"}, "erasing_mode = 'rand': should be 'const' or 'pixel'"),
        ({"resized_crop": {"scale": [0.9, 0.1]}}, r"resized_crop.scale = .*: expected \[low, high\]"),
        ({"resized_crop": {"scale": [0.5, 1.1]}}, "resized_crop.scale = .*: expected shares of at most 1"),
        ({"resized_crop": {"ratio": [0, 1]}}, "resized_crop.ratio = .*: expected"),
        ({"crop_padding": -1}, "crop_padding = -1"),
        ({"mixup": -0.1}, "mixup = -0.1"),
        ({"autoaugment": "v0"}, "autoaugment: unknown field"),
    ],
)
def test_mistakes_are_told_in_one_sentence(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_settings(AugmentSettings, recipe, origin="recipe")
