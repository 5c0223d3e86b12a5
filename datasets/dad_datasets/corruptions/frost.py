"""Frost: a piece of an icy window laid over the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dad_datasets.corruptions.draws import draw_each
from dad_datasets.corruptions.frost_texture import NUM_TEXTURES, TEXTURE_SIDE, frost_texture

_PICTURES = (0, 1, 1, 2, 3)
"""Texture for each of the five photographs that the published code draws from; its second and third are the same."""


def frost(
    pixels: Float[Tensor, "n 3 h w"],
    generators: Sequence[np.random.Generator],
    image_weight: float,
    frost_weight: float,
    step: int,
) -> Float[Tensor, "n 3 h w"]:
    """image_weight x + frost_weight f, where f is every `step`-th pixel of a texture, from a random position on.

    CIFAR-10-C shrinks its photographs five times without smoothing, which takes every fifth pixel, too.
    """
    assert max(_PICTURES) < NUM_TEXTURES
    draws = draw_each(generators, lambda g: g.integers((len(_PICTURES), TEXTURE_SIDE, TEXTURE_SIDE)))
    pieces = np.empty(pixels.shape, np.uint8)
    for piece, (picture, top, left) in zip(pieces, draws.tolist(), strict=True):
        rows, columns = (
            np.arange(start, start + step * side, step) % TEXTURE_SIDE  # the textures have no seam
            for start, side in zip((top, left), pixels.shape[2:], strict=True)
        )
        piece[:] = frost_texture(_PICTURES[picture])[:, rows[:, None], columns]
    return image_weight * pixels + frost_weight * (torch.from_numpy(pieces).to(pixels) / 255)
