"""Glass blur: pixels scattered over their neighbours, between two Gaussian blurs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dad_datasets.corruptions.draws import draw_each
from dad_datasets.corruptions.gaussian import smooth


def glass_blur(
    pixels: Float[Tensor, "n 3 h w"],
    generators: Sequence[np.random.Generator],
    sigma: float,
    max_delta: int,
    num_rounds: int,
) -> Float[Tensor, "n 3 h w"]:
    """Blur, `num_rounds` of scattering by up to `max_delta` pixels (as 8-bit pixels), blur again."""
    blurred = (smooth(pixels, sigma) * 255).floor().flatten(2)
    height, width = pixels.shape[2:]
    sides = [max(0, side - 2 * max_delta) for side in (height, width)]
    moves = draw_each(generators, lambda g: g.integers(-max_delta, max_delta, (num_rounds, 2, *sides)))
    for down, right in moves.to(pixels.device).permute(1, 2, 0, 3, 4):
        source = scatter(down, right, height, width, max_delta)
        blurred = blurred.gather(2, source[:, None].expand_as(blurred))
    return smooth(blurred.view_as(pixels) / 255, sigma)


def scatter(
    down: Int[Tensor, "n rows columns"], right: Int[Tensor, "n rows columns"], height: int, width: int, max_delta: int
) -> Int[Tensor, "n pixels"]:
    """For each pixel in raster order, which pixel's value it holds after one round.

    The published loop walks the pixels [max_delta + 1, side - max_delta] from the last to the first and means to swap
    each with the neighbour that was drawn, but its numpy views alias: the pixel is overwritten by the neighbour, which
    keeps its value. The published images were made so, and so are these. A neighbour later in raster order has been
    overwritten before, so values travel along chains: they are followed by pointer doubling, all pixels at once.
    """
    here = torch.arange(height * width, device=down.device).expand(len(down), -1)
    drawn = here.clone()
    inner = drawn.view(-1, height, width)[
        :, max_delta + 1 : height - max_delta + 1, max_delta + 1 : width - max_delta + 1
    ]
    inner += down * width + right
    later = torch.maximum(drawn, here)  # itself where the chain ends: its neighbour has not been overwritten yet
    while True:
        further = later.gather(1, later)
        if torch.equal(further, later):
            return drawn.gather(1, later)
        later = further
