"""Random erasing of canvases (Zhong et al., AAAI 2020) by timm's rule: one box, the same for all images of a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dad_datasets.views import Box, Canvas
from dad_trainer.augment.settings import ErasingMode

AREA = (0.02, 1 / 3)  # share of the image
LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))  # of height over width
ATTEMPTS = 10


def erase_alike(
    images: Sequence[Canvas],
    rng: np.random.Generator,
    *,
    probability: float,
    mode: ErasingMode,
    mean: Sequence[float],
    std: Sequence[float],
) -> list[Canvas]:
    """Each image with one box filled, with `probability`: by the colour `mean` (const), or by normal noise (pixel).

    timm erases normalised images, with 0 or standard normal noise; on pixels that is `mean`, or mean + std * noise with
    mean and std per channel in [0, 1]. Unlike timm's, the noise ends at black and white.
    """
    if rng.random() >= probability:
        return list(images)
    height, width, _ = images[0].shape
    box = draw_box(height, width, rng)
    if box is None:
        return list(images)
    left, top, right, bottom = box
    colour = np.asarray(mean, np.float32)
    if mode == "pixel":
        noise = rng.standard_normal((bottom - top, right - left, len(colour)), dtype=np.float32)
        colour = colour + np.asarray(std, np.float32) * noise
    patch = np.rint(colour.clip(0, 1) * 255).astype(np.uint8)
    erased = [image.copy() for image in images]
    for image in erased:
        image[top:bottom, left:right] = patch
    return erased


def draw_box(height: int, width: int, rng: np.random.Generator) -> Box | None:
    """A box of 2 to 33 % of the image and of height over width between 0.3 and 3.3; None where none of ten fits."""
    for _ in range(ATTEMPTS):
        area = rng.uniform(*AREA) * height * width
        aspect = math.exp(rng.uniform(*LOG_ASPECT))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < height and w < width:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            return left, top, left + w, top + h
    return None
