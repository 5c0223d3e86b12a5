"""Snow: streaks of falling flakes over a whitened image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dad_datasets.corruptions.blur import clipped_zoom
from dad_datasets.corruptions.draws import normals, uniforms
from dad_datasets.corruptions.motion import blur_along

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601's weights of red, green and blue


def snow(
    pixels: Float[Tensor, "n 3 h w"],
    generators: Sequence[np.random.Generator],
    mean: float,
    sigma: float,
    zoom: float,
    threshold: float,
    motion_radius: int,
    motion_sigma: float,
    kept: float,
) -> Float[Tensor, "n 3 h w"]:
    """Flakes are the peaks of enlarged noise; they fall in two layers, one the other turned by 180 degrees."""
    layer = mean + sigma * normals(generators, 1, *pixels.shape[2:]).to(pixels)
    layer = clipped_zoom(layer, zoom)
    layer = torch.where(layer < threshold, 0, layer).clamp(0, 1)
    falling = uniforms(generators, -135.0, -45.0).tolist()
    # 8 bits before and after the motion, because the published code hands the layer to ImageMagick as a PNG.
    layer = (blur_along((layer * 255).floor(), falling, motion_radius, motion_sigma)).round() / 255
    grey = (pixels * pixels.new_tensor(_GREY)[:, None, None]).sum(dim=1, keepdim=True)
    whitened = kept * pixels + (1 - kept) * torch.maximum(pixels, 1.5 * grey + 0.5)
    return whitened + layer + layer.rot90(2, (2, 3))
