"""The contract of `corrupt`: deterministic, image by image, any size, and clear about mistakes."""

from __future__ import annotations

import pytest
import torch
from photographs import as_batch, photographs

from dad_datasets.corruptions import COMMON, EXTRA, NUM_SEVERITIES, CorruptionName, StrengthsName, corrupt
from dad_datasets.corruptions.corrupt import RANDOM
from dad_datasets.corruptions.strengths import TABLES
from dad_datasets.errors import UserError

NAMES = COMMON + EXTRA
KEYS = ["a", "b", "c", "d"]
IMAGES = as_batch(photographs(32))
MIXING: tuple[CorruptionName, ...] = (
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
)


def test_there_are_fifteen_and_four_with_five_severities_each() -> None:
    assert (len(COMMON), len(EXTRA), len(set(NAMES))) == (15, 4, 19)
    for table in TABLES.values():
        assert set(table) == set(NAMES)
        for name, rows in table.items():
            assert len(rows) == NUM_SEVERITIES
            assert len(set(rows)) == NUM_SEVERITIES, f"{name}: two severities are equal"
            assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strengths", ["imagenet", "cifar"])
def test_neither_batch_nor_order_changes_an_image(name: CorruptionName, strengths: StrengthsName) -> None:
    before = IMAGES.clone()
    together = corrupt(IMAGES, name, 3, strengths=strengths, seed=5, keys=KEYS)
    assert torch.equal(IMAGES, before)
    assert (together.dtype, together.shape) == (torch.uint8, IMAGES.shape)
    assert not torch.equal(together, IMAGES)
    order = [2, 0, 3]
    mixed = corrupt(IMAGES[order], name, 3, strengths=strengths, seed=5, keys=[KEYS[i] for i in order])
    assert torch.equal(mixed, together[order])
    alone = corrupt(IMAGES[1:2], name, 3, strengths=strengths, seed=5, keys=KEYS[1:2])
    assert torch.equal(alone, together[1:2])


@pytest.mark.parametrize("name", NAMES)
def test_chance_depends_on_seed_and_key(name: CorruptionName) -> None:
    image = IMAGES[:1]
    first = corrupt(image, name, 3, strengths="cifar", seed=0, keys=["a"])
    others = [
        corrupt(image, name, 3, strengths="cifar", seed=1, keys=["a"]),
        corrupt(image, name, 3, strengths="cifar", seed=0, keys=["b"]),
    ]
    for other in others:
        assert torch.equal(first, other) == (name not in RANDOM)


def test_global_generators_are_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = [corrupt(IMAGES, name, 2, strengths="cifar", seed=0, keys=KEYS) for name in NAMES]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    again = [corrupt(IMAGES, name, 2, strengths="cifar", seed=0, keys=KEYS) for name in NAMES]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("strengths", ["imagenet", "cifar"])
@pytest.mark.parametrize("shape", [(28, 28), (20, 33), (65, 48), (6, 5)])
def test_any_height_and_width(strengths: StrengthsName, shape: tuple[int, int]) -> None:
    images = as_batch(photographs(72))[:2, :, : shape[0], : shape[1]]
    for name in NAMES:
        for severity in (1, 5):
            assert corrupt(images, name, severity, strengths=strengths, seed=0, keys=["a", "b"]).shape == images.shape


@pytest.mark.parametrize("level", [0, 255])
def test_flat_images_stay_as_they_are_where_pixels_only_mix(level: int) -> None:
    flat = torch.full((1, 3, 32, 32), level, dtype=torch.uint8)
    for name in MIXING:
        for severity in (1, 4):
            corrupted = corrupt(flat, name, severity, strengths="imagenet", seed=0, keys=["a"])
            assert torch.equal(corrupted, flat), f"{name} {severity}"


def test_an_empty_batch() -> None:
    assert corrupt(IMAGES[:0], "fog", 1, strengths="cifar", seed=0, keys=[]).shape == (0, 3, 32, 32)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="'fogg' is unknown"):
        corrupt(IMAGES, "fogg", 1, strengths="cifar", seed=0, keys=KEYS)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(UserError, match="strengths 'mnist'"):
        corrupt(IMAGES, "fog", 1, strengths="mnist", seed=0, keys=KEYS)  # type: ignore[arg-type]  # the mistake
    for severity in (0, 6):
        with pytest.raises(UserError, match=f"severity {severity} of fog is not one of 1"):
            corrupt(IMAGES, "fog", severity, strengths="cifar", seed=0, keys=KEYS)
    with pytest.raises(UserError, match="3 were given for 4 images"):
        corrupt(IMAGES, "fog", 1, strengths="cifar", seed=0, keys=KEYS[:3])
    for wrong in (IMAGES.float(), IMAGES[0], IMAGES[:, :1]):
        with pytest.raises(UserError, match=r"uint8 \[n, 3, h, w\] is expected"):
            corrupt(wrong, "fog", 1, strengths="cifar", seed=0, keys=KEYS)
