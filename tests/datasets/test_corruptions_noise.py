"""Noise on flat images against its closed forms, with ImageNet-C's constants written down for a second time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dad_datasets.corruptions import CorruptionName, corrupt

NUM_VALUES = 3 * 224 * 224
STANDARD_ERRORS = 5


def noisy(level: int, name: CorruptionName, severity: int) -> Tensor:
    flat = torch.full((1, 3, 224, 224), level, dtype=torch.uint8)
    return corrupt(flat, name, severity, strengths="imagenet", seed=3, keys=["flat"]).double() / 255


def assert_share(found: Tensor, expected: float) -> None:
    assert found.double().mean().item() == pytest.approx(
        expected, abs=STANDARD_ERRORS * math.sqrt(expected * (1 - expected) / NUM_VALUES)
    )


@pytest.mark.parametrize(("severity", "photons"), list(enumerate([60, 25, 12, 5, 3], start=1)))
def test_shot_noise_leaves_no_photon_as_often_as_poisson(severity: int, photons: int) -> None:
    assert_share(noisy(17, "shot_noise", severity) == 0, math.exp(-photons * 17 / 255))


@pytest.mark.parametrize(("severity", "amount"), list(enumerate([0.03, 0.06, 0.09, 0.17, 0.27], start=1)))
def test_impulse_noise_strikes_its_share_half_salt_half_pepper(severity: int, amount: float) -> None:
    found = noisy(100, "impulse_noise", severity)
    assert_share(found == 0, amount / 2)
    assert_share(found == 1, amount / 2)
    assert_share(found == 100 / 255, 1 - amount)


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate([0.08, 0.12, 0.18, 0.26, 0.38], start=1)))
def test_gaussian_noise_has_its_sigma(severity: int, sigma: float) -> None:
    # Cut down to a level: P(result < (k + 1) / 255) = Phi((k + 1 - 100) / (255 sigma)).
    found = noisy(100, "gaussian_noise", severity)
    assert_share(found < 80 / 255, 0.5 * math.erfc(20 / (255 * sigma * math.sqrt(2))))


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate([0.15, 0.2, 0.35, 0.45, 0.6], start=1)))
def test_speckle_noise_is_gaussian_in_proportion_to_the_pixel(severity: int, sigma: float) -> None:
    for level in (100, 200):
        found = noisy(level, "speckle_noise", severity)
        assert_share(found < 0.8 * level / 255, 0.5 * math.erfc(0.2 / (sigma * math.sqrt(2))))
