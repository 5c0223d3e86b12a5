"""Augmentations are functions of names alone, alike for both images of a sample."""

from __future__ import annotations

import math
import pickle
import random
import subprocess
import sys
from typing import Any

import augmentation_cases
import numpy as np
import pytest
from augmentation_cases import (
    ADVERSARIAL,
    CLEAN,
    EVERYTHING,
    RECIPES,
    build,
    digest,
    every_recipe,
    global_states,
    merged,
)
from PIL import Image

from dad_trainer.augment.global_generators import transform_alike


@every_recipe
def test_both_images_are_treated_alike(recipe: dict[str, Any]) -> None:
    augment = build(recipe)
    for epoch in range(10):
        first, second = augment([CLEAN, CLEAN.copy()], epoch=epoch, key="a", view=1)
        assert np.array_equal(first, second)
        (alone,) = augment([CLEAN], epoch=epoch, key="a", view=1)
        beside, other = augment([CLEAN, ADVERSARIAL], epoch=epoch, key="a", view=1)
        (other_alone,) = augment([ADVERSARIAL], epoch=epoch, key="a", view=1)
        assert np.array_equal(alone, beside)
        assert np.array_equal(other_alone, other)
        for image in (first, beside, other):
            assert image.shape == (32, 32, 3)
            assert image.dtype == np.uint8
            assert image.flags.c_contiguous


@every_recipe
def test_the_draws_are_those_of_the_sample_alone(recipe: dict[str, Any]) -> None:
    augment, names = build(recipe), [(epoch, key, view) for epoch in range(3) for key in "ab" for view in range(2)]
    in_order = {name: augment([CLEAN], epoch=name[0], key=name[1], view=name[2])[0] for name in names}
    another = pickle.loads(pickle.dumps(augment))
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002 - what must not matter
    for name in reversed(names):
        (image,) = another([CLEAN], epoch=name[0], key=name[1], view=name[2])
        assert np.array_equal(image, in_order[name])
    seen = {image.tobytes() for image in in_order.values()}
    assert (len(seen) > 1) == bool(recipe)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "flip"])
def test_seed_epoch_key_and_view_each_change_the_draw(name: str) -> None:
    recipe = {**RECIPES[name]} | ({"erasing": 1} if "erasing" in RECIPES[name] else {})

    def ten(seed: int = 0, epoch: int = 0, suffix: str = "", view: int = 0) -> list[bytes]:
        augment = build(recipe, seed)
        return [augment([CLEAN], epoch=epoch, key=f"{i}{suffix}", view=view)[0].tobytes() for i in range(10)]

    variants = [ten(), ten(seed=1), ten(epoch=1), ten(suffix="b"), ten(view=1)]
    assert len({tuple(variant) for variant in variants}) == len(variants)


def test_another_process_draws_the_same() -> None:
    recipe = merged(*EVERYTHING)
    source = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('cases', {augmentation_cases.__file__!r})\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        f"print(module.digest(module.build({recipe!r})))"
    )
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest(build(recipe))


@every_recipe
def test_global_generators_are_left_as_they_were(recipe: dict[str, Any]) -> None:
    random.gauss(0, 1)  # leaves a second value behind, which is part of the state
    before = global_states()
    build(recipe)([CLEAN, ADVERSARIAL], epoch=0, key="a", view=0)
    assert global_states() == before


def test_global_generators_are_left_as_they_were_when_a_transform_raises() -> None:
    def fail(image: Image.Image) -> Image.Image:
        raise ArithmeticError(random.random() + np.random.random())  # noqa: NPY002 - as timm draws

    before = global_states()
    with pytest.raises(ArithmeticError):
        transform_alike([CLEAN], np.random.default_rng(0), transform=fail)
    assert global_states() == before


def test_what_one_image_draws_does_not_reach_the_next() -> None:
    def draw_by_content(image: Image.Image) -> Image.Image:
        for _ in range(np.asarray(image)[0, 0, 0]):
            random.random()
            np.random.random()  # noqa: NPY002 - as timm draws
        return Image.new("RGB", (1, 1), (random.randrange(256), np.random.randint(256), 0))  # noqa: NPY002

    images = [np.full((1, 1, 3), value, np.uint8) for value in (5, 0, 5)]
    together = transform_alike(images, np.random.default_rng(0), transform=draw_by_content)
    assert np.array_equal(together[0], together[2])
    (alone,) = transform_alike(images[1:2], np.random.default_rng(0), transform=draw_by_content)
    assert np.array_equal(together[1], alone)


def test_each_augmentation_draws_for_itself_and_they_act_in_the_stated_order() -> None:
    whole, parts = build(merged(*EVERYTHING)), [build(RECIPES[name]) for name in EVERYTHING]
    for i in range(10):
        stepwise = [CLEAN, ADVERSARIAL]
        for part in parts:
            stepwise = part(stepwise, epoch=0, key=str(i), view=0)
        for one, other in zip(whole([CLEAN, ADVERSARIAL], epoch=0, key=str(i), view=0), stepwise, strict=True):
            assert np.array_equal(one, other)


def test_one_augmentations_luck_says_nothing_of_anothers() -> None:
    red = np.array((255, 0, 0))
    augment = build({"flip": 0.5, "erasing": 0.5, "erasing_mode": "const"}, mean=(1.0, 0.0, 0.0))
    both = 0
    for i in range(1000):
        (image,) = augment([CLEAN], epoch=0, key=str(i), view=0)
        erased = (image == red).all(axis=2)
        both += erased.any() and np.array_equal(image[~erased], CLEAN[:, ::-1][~erased])
    assert both == pytest.approx(250, abs=4 * math.sqrt(1000 * 0.25 * 0.75))


def test_images_of_two_sizes_are_no_sample() -> None:
    with pytest.raises(AssertionError, match="one size"):
        build({})([CLEAN, CLEAN[:16, :16]], epoch=0, key="a", view=0)
