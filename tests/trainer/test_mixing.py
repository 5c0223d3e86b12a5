"""Mixup and cutmix: exact against a loop over images, drawn by names, with the laws of timm's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mixing_by_hand import mix_one_by_one
from timm.data import mixup as timm_mixup
from torch.nn import functional as F

from dad_datasets.settings import build_settings
from dad_trainer.augment import AugmentSettings, Mixing, draw_mixing, mix_images, mix_labels
from dad_trainer.augment.mixing import cut_box

SIZE = 12
BOTH = {"mixup": 0.8, "cutmix": 1.0, "mixing_probability": 0.9}
recipes = pytest.mark.parametrize("recipe", [{"mixup": 0.2}, {"cutmix": 1.0}, BOTH], ids=["mixup", "cutmix", "both"])


def draw(recipe: dict[str, Any], count: int, *, first: int = 0, seed: int = 0, epoch: int = 0) -> Mixing:
    settings = build_settings(AugmentSettings, recipe, origin="recipe")
    keys = [f"key{i}" for i in range(first, first + count)]
    mixing = draw_mixing(settings, seed=seed, epoch=epoch, keys=keys, size=SIZE)
    assert mixing is not None
    return mixing


def same(one: Mixing, other: Mixing) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("partner", "lam", "boxes", "cut"))


@recipes
@pytest.mark.parametrize("count", [1, 2, 7, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_images_mix_exactly_as_in_a_loop(recipe: dict[str, Any], count: int, dtype: type) -> None:
    mixing = draw(recipe, count)
    clean, adversarial = np.random.default_rng(0).normal(size=(2, count, 3, SIZE, SIZE)).astype(dtype)
    for images in (clean, adversarial):
        before = images.copy()
        mixed = mix_images(torch.from_numpy(images), mixing)
        assert np.array_equal(mixed.numpy(), mix_one_by_one(images, mixing))
        assert np.array_equal(images, before)


def test_one_draw_for_any_shape_and_dtype() -> None:
    mixing = draw(BOTH, 4)
    images = torch.rand(4, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    half = mix_images(images.half(), mixing)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), mix_images(images, mixing), atol=2e-3, rtol=0)
    channels_last = images.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    mixed = mix_images(channels_last, mixing)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(mixed, mix_images(channels_last.contiguous(), mixing))


def test_a_mixing_goes_to_a_device_whole() -> None:
    moved = draw(BOTH, 4).to("meta")
    assert {getattr(moved, name).device.type for name in ("partner", "lam", "boxes", "cut")} == {"meta"}


@recipes
def test_labels_have_the_share_that_the_pixels_have(recipe: dict[str, Any]) -> None:
    mixing, classes = draw(recipe, 21), torch.arange(21) % 5
    labels = F.one_hot(classes, 5).double()
    images = labels[:, :, None, None].expand(-1, -1, SIZE, SIZE)  # every pixel of an image says what its class is
    mixed = mix_labels(labels, mixing)
    torch.testing.assert_close(mixed, mix_images(images, mixing).mean(dim=(2, 3)), atol=1e-7, rtol=0)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(21, dtype=torch.float64))
    assert (mixed[:20].amax(dim=1) < 1).any()


@recipes
def test_neighbours_are_partners_and_share_one_draw(recipe: dict[str, Any]) -> None:
    mixing = draw(recipe, 7)
    assert mixing.partner.tolist() == [1, 0, 3, 2, 5, 4, 6]
    assert (mixing.lam[6].item(), mixing.cut[6].item(), mixing.boxes[6].tolist()) == (1, False, [0, 0, 0, 0])
    for values in (mixing.lam, mixing.boxes, mixing.cut):
        assert torch.equal(values[0:6:2], values[1:6:2])


@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=4), odd=st.booleans(), epoch=st.integers(0, 3))
def test_a_batch_cut_into_even_parts_mixes_as_the_whole(counts: list[int], odd: bool, epoch: int) -> None:
    sizes = [2 * count for count in counts]
    sizes[-1] += odd
    whole, start = draw(BOTH, sum(sizes), epoch=epoch), 0
    for size in sizes:
        part, place = draw(BOTH, size, first=start, epoch=epoch), slice(start, start + size)
        assert torch.equal(part.partner + start, whole.partner[place])
        assert torch.equal(part.lam, whole.lam[place])
        assert torch.equal(part.boxes, whole.boxes[place])
        assert torch.equal(part.cut, whole.cut[place])
        start += size


@recipes
def test_the_draw_is_a_function_of_seed_epoch_and_keys(recipe: dict[str, Any]) -> None:
    first = draw(recipe, 20)
    np.random.seed(3)  # noqa: NPY002 - timm's Mixup draws from this one; we do not
    assert same(first, draw(recipe, 20))
    assert np.random.random() == np.random.RandomState(3).random()  # noqa: NPY002
    for other in (draw(recipe, 20, seed=1), draw(recipe, 20, epoch=1), draw(recipe, 20, first=100)):
        assert not torch.equal(first.lam, other.lam)


def test_nothing_is_drawn_where_both_are_off() -> None:
    assert draw_mixing(AugmentSettings(), seed=0, epoch=0, keys=["a", "b"], size=SIZE) is None


@given(lam=st.floats(0, 1), x=st.integers(0, SIZE - 1), y=st.integers(0, SIZE - 1))
def test_boxes_are_timms(lam: float, x: int, y: int) -> None:
    centre = iter([y, x])  # timm draws the row first
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "randint", lambda low, high, size: next(centre))
        top, bottom, left, right = timm_mixup.rand_bbox((3, SIZE, SIZE), lam)
    assert cut_box(lam, (x, y), SIZE) == (left, top, right, bottom)


def test_cutmix_keeps_exactly_the_share_it_names() -> None:
    mixing = draw({"cutmix": 1.0}, 400)
    left, top, right, bottom = mixing.boxes.double().T
    assert mixing.cut.all()
    assert ((left >= 0) & (top >= 0) & (right <= SIZE) & (bottom <= SIZE)).all()
    assert torch.equal(mixing.lam, (1 - (right - left) * (bottom - top) / SIZE**2).float())
    assert len(set(left.tolist())) > SIZE / 2
    assert len(set(top.tolist())) > SIZE / 2


@pytest.mark.parametrize("alpha", [0.2, 0.8, 2.0])
def test_mixup_follows_the_beta_law(alpha: float) -> None:
    lam = draw({"mixup": alpha}, 4000).lam[::2].double()
    variance = 1 / (4 * (2 * alpha + 1))
    assert lam.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(variance / 2000))
    assert lam.var().item() == pytest.approx(variance, rel=0.1)


def test_couples_are_mixed_and_cut_as_often_as_asked() -> None:
    recipe = {"mixup": 1.0, "cutmix": 1.0, "mixing_probability": 0.6, "switch_probability": 0.25}
    mixing = draw(recipe, 4000)
    cut, mixed = mixing.cut[::2].double(), (mixing.cut | (mixing.lam < 1))[::2].double()
    assert mixed.mean().item() == pytest.approx(0.6, abs=4 * math.sqrt(0.24 / 2000))
    assert cut.mean().item() == pytest.approx(0.15, abs=4 * math.sqrt(0.1275 / 2000))
    assert not draw({"mixup": 1.0}, 100).cut.any()
    assert torch.equal(draw({"mixup": 1.0, "mixing_probability": 0}, 100).lam, torch.ones(100))
