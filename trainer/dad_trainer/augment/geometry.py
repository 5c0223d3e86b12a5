"""Crops and flips of canvases: each a further view of the view that was stored, the same for all images of a sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from dad_datasets.views import Canvas, PadCropView, RandomResizedCropView, ResizeName, View, replay


def crop_alike(
    images: Sequence[Canvas],
    rng: np.random.Generator,
    *,
    crop: RandomResizedCropView | PadCropView,
    interpolation: ResizeName = "bicubic",
) -> list[Canvas]:
    """One box drawn by `crop` (its own flip included), cut from each image and resized to the canvas; black beyond."""
    size = images[0].shape[0]
    box, flip = crop.draw(size, size, size, rng)
    view = View(index=0, box=box, size=size, resize=interpolation, flip=flip)
    return [replay(Image.fromarray(image), view) for image in images]


def flip_alike(images: Sequence[Canvas], rng: np.random.Generator, *, probability: float) -> list[Canvas]:
    """Each image mirrored left and right, with `probability`, or none."""
    if rng.random() >= probability:
        return list(images)
    # Pillow's mirror takes 95 us at 224 px, numpy's copy of a reversed axis 240; torch's wakes threads for it.
    mirror = Image.Transpose.FLIP_LEFT_RIGHT
    return [np.asarray(Image.fromarray(image).transpose(mirror)) for image in images]
