"""Fog: a plasma fractal (diamond-square) laid over the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dad_datasets.corruptions.draws import uniforms

_FIRST_WIBBLE = 100.0


def fog(
    pixels: Float[Tensor, "n 3 h w"], generators: Sequence[np.random.Generator], thickness: float, decay: float
) -> Float[Tensor, "n 3 h w"]:
    """(x + thickness f) m / (m + thickness), f the fractal in [0, 1] and m the image's largest value."""
    height, width = pixels.shape[2:]
    side = 1 << (max(height, width, 2) - 1).bit_length()
    fractal = plasma_fractal(uniforms(generators, -1.0, 1.0, side * side - 1).to(pixels), decay)[:, :height, :width]
    largest = pixels.amax(dim=(1, 2, 3), keepdim=True)
    return (pixels + thickness * fractal[:, None]) * largest / (largest + thickness)


def plasma_fractal(noise: Float[Tensor, "n m"], decay: float) -> Float[Tensor, "n s s"]:
    """Heights in [0, 1] on a torus of side s, a power of two, from m = s^2 - 1 uniform numbers in [-1, 1).

    Each scale sets the middles of the last one's squares, then of the diamonds, to the mean of four neighbours plus
    noise of size wibble^2 (squared, as published), where wibble falls by `decay` from scale to scale.
    """
    side = round((noise.shape[1] + 1) ** 0.5)
    heights = noise.new_zeros(len(noise), side, side)
    step, wibble, used = side, _FIRST_WIBBLE, 0
    while step >= 2:
        cells, half = side // step, step // 2
        parts = noise[:, used : used + 3 * cells * cells].view(len(noise), 3, cells, cells) * wibble**2
        used += 3 * cells * cells
        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        middles = (pairs + pairs.roll(-1, 2)) / 4 + parts[:, 0]
        heights[:, half::step, half::step] = middles
        heights[:, ::step, half::step] = _mean_of_four(middles, 1, corners, 2) + parts[:, 1]
        heights[:, half::step, ::step] = _mean_of_four(middles, 2, corners, 1) + parts[:, 2]
        step, wibble = half, wibble / decay
    heights -= heights.amin(dim=(1, 2), keepdim=True)
    return heights / heights.amax(dim=(1, 2), keepdim=True)


def _mean_of_four(
    middles: Float[Tensor, "n k k"], axis: int, corners: Float[Tensor, "n k k"], corner_axis: int
) -> Float[Tensor, "n k k"]:
    return (middles + middles.roll(1, axis) + corners + corners.roll(-1, corner_axis)) / 4
