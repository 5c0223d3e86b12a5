"""Spatter: drops of water or splashes of mud on the lens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dad_datasets.corruptions.draws import normals
from dad_datasets.corruptions.edges import canny, distance_to
from dad_datasets.corruptions.gaussian import smooth
from dad_datasets.corruptions.stencil import correlate

_WATER_RGB = (175 / 255, 238 / 255, 238 / 255)  # pale turquoise
_MUD_RGB = (63 / 255, 42 / 255, 20 / 255)
_CANNY_LOW, _CANNY_HIGH = 50.0, 150.0
_MAX_DISTANCE = 20
_EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
_SOLID_MUD = 0.8


def spatter(
    pixels: Float[Tensor, "n 3 h w"],
    generators: Sequence[np.random.Generator],
    mean: float,
    sigma: float,
    smoothing: float,
    threshold: float,
    amount: float,
    is_mud: int,
) -> Float[Tensor, "n 3 h w"]:
    """Drops are the peaks of smooth noise. Water adds its colour, shaded by `water_shading`, with weight `amount`;
    mud covers the image where its drops, smoothed by `amount`, are dense.
    """
    liquid = smooth(mean + sigma * normals(generators, 1, *pixels.shape[2:]).to(pixels), smoothing)
    if is_mud:
        mud = smooth((liquid > threshold).to(pixels), amount)
        mud = torch.where(mud < _SOLID_MUD, 0, mud)
        return pixels * (1 - mud) + mud * pixels.new_tensor(_MUD_RGB)[:, None, None]
    # Peaks above 1 (in one image of fifty at CIFAR's severity 3) wrap round to dark, as uint8 does where published.
    levels = (torch.where(liquid < threshold, 0, liquid) * 255).floor().remainder(256)
    water = levels * water_shading(levels)
    # An image without a drop stays as it is; the published code divides 0 by 0 there.
    water = water / water.amax(dim=(2, 3), keepdim=True).clamp(min=1)
    return pixels + amount * water * pixels.new_tensor(_WATER_RGB)[:, None, None]


def water_shading(levels: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """0 ... 255: the distance to the drops' rims, equalised and embossed, so that drops look lit from one side."""
    distance = distance_to(canny(levels, _CANNY_LOW, _CANNY_HIGH), _MAX_DISTANCE).to(levels)
    equalised = equalise(_mean_3x3(distance).floor())
    embossed = correlate(equalised, _EMBOSS, "reflect").clamp(0, 255)
    return _mean_3x3(embossed).round()


def equalise(levels: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    """Histogram equalisation of whole levels 0 ... 255: the lowest level present becomes 0, the highest 255; an image
    of one level stays (OpenCV's equalizeHist).
    """
    flat = levels.flatten(1).long()
    counts = torch.zeros(len(levels), 256, device=levels.device).scatter_add_(
        1, flat, torch.ones_like(levels.flatten(1))
    )
    up_to = counts.cumsum(dim=1)
    lowest = up_to.gather(1, flat.amin(dim=1, keepdim=True))
    others = flat.shape[1] - lowest
    # A true quotient: torch computes 255 / tensor as a reciprocal times 255, whose last bit tips halves.
    scale = torch.div(others.new_tensor(255), others.clamp(min=1))
    table = ((up_to - lowest).clamp(min=0) * scale).round()
    return torch.where(others > 0, table.gather(1, flat), levels.flatten(1)).view_as(levels)


def _mean_3x3(levels: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 h w"]:
    return correlate(levels, ((1, 1, 1),) * 3, "reflect") / 9
