"""Frost: its weights exactly, and its textures against the published photographs, which the fork carries."""

from __future__ import annotations

import importlib.resources
import io
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from published_corruptions import FROST

from dad_datasets.corruptions import NUM_SEVERITIES, StrengthsName, corrupt
from dad_datasets.corruptions.frost_texture import NUM_TEXTURES, TEXTURE_SIDE, frost_texture
from dad_datasets.views import Canvas

PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost4.jpg", "frost5.jpg")  # frost3 is frost2 again; frost6 is never drawn
NUM_DRAWS = 40
PIECE = 224
OCTAVES = (2, 4, 8, 16, 32, 64, 112)


def photograph(number: int) -> Canvas:
    data = (importlib.resources.files("imagecorruptions") / "frost" / PHOTOGRAPHS[number]).read_bytes()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def frosted(level: int, severity: int, strengths: StrengthsName) -> npt.NDArray[np.float64]:
    flat = torch.full((NUM_DRAWS, 3, 32, 32), level, dtype=torch.uint8)
    keys = [str(number) for number in range(NUM_DRAWS)]
    return corrupt(flat, "frost", severity, strengths=strengths, seed=0, keys=keys).numpy().astype(float)


@pytest.mark.parametrize("strengths", ["imagenet", "cifar"])
def test_image_and_frost_have_their_weights(strengths: StrengthsName) -> None:
    light = np.mean([photograph(number).mean() for number in (0, 1, 1, 2, 3)])
    for severity in range(1, NUM_SEVERITIES + 1):
        image_weight, frost_weight = FROST[strengths][severity - 1]
        black, dark = frosted(0, severity, strengths), frosted(40, severity, strengths)
        unclipped = dark < 255
        assert (dark - black)[unclipped].mean() / 40 == pytest.approx(image_weight, abs=0.01)
        # Forty draws of five textures: 8 % is two standard errors, and less than half of most steps of the table.
        assert black.mean() == pytest.approx(frost_weight * light, rel=0.08)


@pytest.mark.parametrize("strengths", ["imagenet", "cifar"])
def test_a_strip_of_frost_shows_the_texture_at_its_step(strengths: StrengthsName) -> None:
    black = frosted(0, 1, strengths)
    step, weight = (1, 0.4) if strengths == "imagenet" else (5, 0.2)
    rows = np.concatenate([np.tile(frost_texture(number), (1, 1, 2))[0] for number in range(NUM_TEXTURES)])
    windows = np.floor(weight * rows + 2**-10)
    for image in black[:3]:
        strip = image[0, 0]
        hits = [(windows[:, at : at + 32 * step : step] == strip).all(axis=1).any() for at in range(TEXTURE_SIDE)]
        assert any(hits)


def spectrum(grey: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """log10 of the mean power of 224 px pieces in each octave of wave numbers, relative to all octaves'."""
    rng = np.random.default_rng(0)
    window = np.outer(np.hanning(PIECE), np.hanning(PIECE))
    frequency = np.fft.fftfreq(PIECE) * PIECE
    ring = np.hypot(frequency[:, None], frequency).round().astype(int).ravel()
    power = np.zeros(ring.max() + 1)
    for _ in range(20):
        top, left = rng.integers(0, grey.shape[0] - PIECE), rng.integers(0, grey.shape[1] - PIECE)
        piece = grey[top : top + PIECE, left : left + PIECE]
        power += np.bincount(ring, np.abs(np.fft.fft2((piece - piece.mean()) * window)).ravel() ** 2)
    octaves = np.array([power[low:high].sum() for low, high in pairwise(OCTAVES)])
    return np.asarray(np.log10(octaves / octaves.sum()))


@pytest.mark.parametrize("number", range(NUM_TEXTURES))
def test_textures_have_the_photographs_light_contrast_and_coarseness(number: int) -> None:
    texture, original = frost_texture(number).transpose(1, 2, 0), photograph(number)
    np.testing.assert_allclose(texture.mean(axis=(0, 1)), original.mean(axis=(0, 1)), atol=2)
    np.testing.assert_allclose(texture.std(axis=(0, 1)), original.std(axis=(0, 1)), rtol=0.08)
    np.testing.assert_allclose(spectrum(texture.mean(axis=2)), spectrum(original.mean(axis=2)), atol=0.15)
    for other in set(range(NUM_TEXTURES)) - {number}:
        assert np.abs(texture.mean(axis=(0, 1)) - photograph(other).mean(axis=(0, 1))).max() > 10


def test_textures_have_no_seam() -> None:
    for number in range(NUM_TEXTURES):
        grey = frost_texture(number).mean(axis=0)
        steps = np.abs(np.diff(grey, axis=0)).mean()
        assert np.abs(grey[0] - grey[-1]).mean() < 1.3 * steps
