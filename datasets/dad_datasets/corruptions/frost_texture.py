"""Frost made of needles of ice: our own textures in the place of the published photographs.

A departure from the published corruption, whose photographs cannot be made from code. Ours have needles of random
place and direction; the power spectrum and the distribution of each colour's levels are those measured on the
photographs, so that weight, contrast and coarseness of the frost agree, and the shapes of its crystals do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dad_datasets.seeding import generator_for

TEXTURE_SIDE = 640
"""Pixels; the textures are tori."""

_NUM_DIRECTIONS = 24
_NUM_ROUNDS = 3
_MEASURED_SIDE = 224  # pixels: the unit of the wave numbers below
_WAVE_NUMBERS = (0.35, 2, 4, 8, 16, 32, 64, 110)  # waves per 224 pixels
_SHARES = (0.0, 0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99, 1.0)

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Frost:
    """What one photograph's texture is made of."""

    length: int
    """Of a needle, in pixels (standard deviation along it)."""
    needles: int
    """Mean number per thousand pixels."""
    power: Sequence[float]
    """log10 of the grey power density at each wave number, relative to that at 8."""
    levels: Sequence[Sequence[int]]
    """For red, green and blue: the levels below which the shares of the pixels lie."""


_FROSTS = (
    _Frost(
        length=12,
        needles=2,
        power=(3.3, 1.68, 0.84, 0.0, -0.60, -0.82, -1.11, -1.90),
        levels=(
            (24, 31, 40, 50, 61, 74, 90, 107, 127, 150, 169),
            (111, 116, 123, 132, 140, 148, 157, 167, 178, 190, 205),
            (129, 134, 141, 149, 157, 166, 174, 182, 191, 202, 216),
        ),
    ),
    _Frost(
        length=16,
        needles=3,
        power=(2.4, 0.82, 0.36, 0.0, -0.39, -1.07, -1.56, -2.54),
        levels=(
            (104, 138, 162, 180, 193, 204, 213, 221, 230, 241, 248),
            (104, 140, 165, 183, 197, 209, 218, 227, 235, 245, 252),
            (109, 146, 172, 192, 206, 218, 228, 236, 244, 250, 253),
        ),
    ),
    _Frost(
        length=5,
        needles=8,
        power=(2.3, 0.56, 0.32, 0.0, -0.36, -0.66, -1.13, -2.00),
        levels=(
            (41, 69, 91, 110, 124, 138, 151, 164, 183, 218, 244),
            (53, 84, 105, 125, 139, 153, 166, 179, 199, 234, 255),
            (60, 92, 115, 137, 151, 165, 179, 193, 214, 249, 255),
        ),
    ),
    _Frost(
        length=9,
        needles=3,
        power=(2.7, 0.70, 0.52, 0.0, -0.61, -1.16, -1.76, -2.14),
        levels=(
            (24, 34, 48, 66, 85, 107, 132, 159, 195, 233, 252),
            (35, 45, 60, 78, 97, 119, 144, 169, 203, 238, 255),
            (45, 57, 72, 91, 110, 131, 155, 179, 211, 243, 255),
        ),
    ),
)
NUM_TEXTURES = len(_FROSTS)


@lru_cache(maxsize=NUM_TEXTURES)
def frost_texture(number: int) -> npt.NDArray[np.uint8]:
    """uint8 [3, side, side] RGB: texture `number`, always the same pixels."""
    frost = _FROSTS[number]
    rng = generator_for("frost texture", number)
    field = _needles(frost, rng)
    share = np.linspace(0, 1, field.size)
    for _ in range(_NUM_ROUNDS):  # levels and spectrum disturb one another, less in each round
        field = _with_power(field, frost.power)
        ranks = np.empty(field.size)
        ranks[field.ravel().argsort(kind="stable")] = share
        colours = np.stack([np.interp(ranks, _SHARES, levels) for levels in frost.levels])
        field = colours.mean(axis=0).reshape(field.shape)
    return colours.round().astype(np.uint8).reshape(3, *field.shape)


def _needles(frost: _Frost, rng: np.random.Generator) -> FloatArray:
    """Bright thin strokes in all directions, summed in the frequency domain, which makes the field seamless."""
    side = TEXTURE_SIDE
    down, right = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    total = np.zeros((side, side // 2 + 1), np.complex128)
    for direction in np.pi * np.arange(_NUM_DIRECTIONS) / _NUM_DIRECTIONS:
        starts = rng.random((side, side)) < frost.needles / 1000 / _NUM_DIRECTIONS
        stroke = frost.length * (down * np.sin(direction) + right * np.cos(direction))
        across = 0.7 * (right * np.sin(direction) - down * np.cos(direction))  # 0.7 px: about the finest line there is
        total += np.fft.rfft2(starts * rng.exponential(size=starts.shape)) * np.exp(
            -2 * np.pi**2 * (stroke**2 + across**2)
        )
    return np.fft.irfft2(total, s=(side, side)) + 1e-6 * rng.standard_normal((side, side))


def _with_power(field: FloatArray, power: Sequence[float]) -> FloatArray:
    """The field with its phases kept, which hold its shapes, and its power at each wave number set."""
    side = TEXTURE_SIDE
    waves = np.fft.rfft2(field - field.mean())
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) * side
    ring = radius.round().astype(np.int64)
    present = np.bincount(ring.ravel(), np.abs(waves).ravel() ** 2) / np.bincount(ring.ravel())
    wanted = 10 ** np.interp(np.log(np.maximum(radius, 1) * _MEASURED_SIDE / side), np.log(_WAVE_NUMBERS), power)
    scaled: FloatArray = np.fft.irfft2(waves * np.sqrt(wanted / np.maximum(present[ring], 1e-30)), s=(side, side))
    return scaled
