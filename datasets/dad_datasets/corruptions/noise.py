"""Noise: Gaussian, shot, impulse and speckle. Pixels are in [0, 1]; results may leave it and are clipped later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dad_datasets.corruptions.draws import normals, uniforms

Generators = Sequence[np.random.Generator]


def gaussian_noise(pixels: Float[Tensor, "n 3 h w"], generators: Generators, sigma: float) -> Float[Tensor, "n 3 h w"]:
    """x + sigma z."""
    return pixels + sigma * normals(generators, *pixels.shape[1:]).to(pixels)


def speckle_noise(pixels: Float[Tensor, "n 3 h w"], generators: Generators, sigma: float) -> Float[Tensor, "n 3 h w"]:
    """x + sigma x z."""
    return pixels + pixels * (sigma * normals(generators, *pixels.shape[1:]).to(pixels))


def shot_noise(pixels: Float[Tensor, "n 3 h w"], generators: Generators, photons: float) -> Float[Tensor, "n 3 h w"]:
    """Poisson(photons x) / photons."""
    expected = (pixels * photons).cpu().numpy()
    counts = np.stack([generator.poisson(image) for generator, image in zip(generators, expected, strict=True)])
    return torch.from_numpy(counts).to(pixels) / photons


def impulse_noise(pixels: Float[Tensor, "n 3 h w"], generators: Generators, amount: float) -> Float[Tensor, "n 3 h w"]:
    """Salt and pepper, on each channel's value for itself: 0 or 1 with probability amount / 2 each."""
    draw = uniforms(generators, 0.0, 1.0, *pixels.shape[1:]).to(pixels)
    return torch.where(draw < amount, (draw < amount / 2).to(pixels), pixels)
