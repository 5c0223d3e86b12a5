"""Other people's code that draws from global generators, made to draw from the sample's own."""

# ruff: noqa: NPY002 - numpy's legacy generator is the one that timm draws from
from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from dad_datasets.views import Canvas


def transform_alike(
    images: Sequence[Canvas], rng: np.random.Generator, *, transform: Callable[[Image.Image], Image.Image]
) -> list[Canvas]:
    """`transform` of each image, all with the same draws from `random` and `np.random`, seeded by `rng`.

    Both globals are left as they were found, also when `transform` raises. They are seeded once per image, so that
    what an image does to the stream cannot reach the next. Not for several threads of one process.
    """
    seed = int(rng.integers(2**64, dtype=np.uint64))
    words = [seed % 2**32, seed >> 32]  # numpy's takes 32 bits at a time
    python_state, numpy_state = random.getstate(), np.random.get_state(legacy=False)
    try:
        transformed = []
        for image in images:
            random.seed(seed)
            np.random.seed(words)
            transformed.append(np.asarray(transform(Image.fromarray(image))))
        return transformed
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
