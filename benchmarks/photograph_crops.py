"""Square pieces of scikit-image's photographs: real pictures without a download."""

from __future__ import annotations

import numpy as np
import skimage.data
from PIL import Image

from dad_datasets.seeding import generator_for
from dad_datasets.views import Canvas

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
SMALLEST_SIDE = 96
"""Of a piece in pixels, before it is resized: smaller ones hold little of a picture."""


def photograph_crops(size: int, count: int, *, seed: int = 0) -> Canvas:
    """uint8 [count, size, size, 3]: pieces from all over the photographs, never enlarged, resized as views are."""
    rng = generator_for("photograph crops", seed, size)
    whole = [Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOGRAPHS]
    return np.stack([_crop(whole[number % len(whole)], size, rng) for number in range(count)])


def _crop(photograph: Image.Image, size: int, rng: np.random.Generator) -> Canvas:
    side = int(rng.integers(max(size, SMALLEST_SIDE), min(photograph.size) + 1))
    left, top = (int(rng.integers(0, extent - side + 1)) for extent in photograph.size)
    piece = photograph.crop((left, top, left + side, top + side))
    return np.asarray(piece.resize((size, size), Image.Resampling.BICUBIC))
