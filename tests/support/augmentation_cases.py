"""Recipes of augmentations, two images, and what an augmentation makes of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from dad_datasets.settings import build_settings
from dad_datasets.views import Canvas
from dad_trainer.augment import Augmentation, AugmentSettings
from dad_trainer.augment.operations import PUBLISHED_OPERATIONS

RECIPES: dict[str, dict[str, Any]] = {
    "resized_crop": {"resized_crop": {}},
    "crop_padding": {"crop_padding": 4},
    "flip": {"flip": 0.5},
    "rand_augment": {"rand_augment": "rand-m9-mstd0.5-inc1"},
    "rand_augment_operations": {"rand_augment": "rand-m9-mstd0.5", "rand_augment_operations": PUBLISHED_OPERATIONS},
    "rand_augment_weights": {"rand_augment": "rand-m9-n3-p0.9-mstd101-mmax15-t3aw"},
    "aug_mix": {"aug_mix": {"severity": 10}},
    "aug_mix_timm": {"aug_mix": {"operations": "timm", "depth": 2}},
    "erasing_const": {"erasing": 0.7, "erasing_mode": "const"},
    "erasing_pixel": {"erasing": 0.7},
}
# In the order in which they should act.
EVERYTHING = ("resized_crop", "crop_padding", "flip", "rand_augment", "aug_mix", "erasing_pixel")

SMOOTH = np.linspace(0, 255, 32)
CLEAN: Canvas = np.stack([*np.meshgrid(SMOOTH, SMOOTH), np.full((32, 32), 90.0)], axis=2).astype(np.uint8)
ADVERSARIAL: Canvas = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
for _canvas in (CLEAN, ADVERSARIAL):
    _canvas.setflags(write=False)  # canvases read from images are read-only

every_recipe = pytest.mark.parametrize("recipe", [*RECIPES.values(), {}], ids=[*RECIPES, "nothing"])


def build(recipe: dict[str, Any], seed: int = 0, **normalisation: Sequence[float]) -> Augmentation:
    return Augmentation(build_settings(AugmentSettings, recipe, origin="recipe"), seed, **normalisation)


def merged(*names: str) -> dict[str, Any]:
    return {field: value for name in names for field, value in RECIPES[name].items()}


def draws(recipe: dict[str, Any], count: int, image: Canvas = CLEAN) -> list[Canvas]:
    augment = build(recipe)
    return [augment([image], epoch=0, key=f"image{i}", view=0)[0] for i in range(count)]


def digest(augment: Augmentation, count: int = 20) -> str:
    images = [augment([CLEAN, ADVERSARIAL], epoch=i % 3, key=str(i), view=i % 2) for i in range(count)]
    return hashlib.sha256(b"".join(image.tobytes() for pair in images for image in pair)).hexdigest()


def global_states() -> tuple[object, ...]:
    numpy_state = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one is the subject here
    return random.getstate(), *(np.asarray(part).tobytes() for part in numpy_state), torch.get_rng_state().tolist()
