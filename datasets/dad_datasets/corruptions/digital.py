"""Brightness, contrast, saturation, pixelation and JPEG. Pixels are in [0, 1], multiples of 1/255."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dad_datasets.views import Canvas


def brightness(pixels: Float[Tensor, "n 3 h w"], added: float) -> Float[Tensor, "n 3 h w"]:
    """HSV's value raised by `added`, at most to 1. Hue and saturation kept: all channels grow by one factor."""
    value = pixels.amax(dim=1, keepdim=True)
    brighter = (value + added).clamp(max=1)
    return torch.where(value > 0, pixels * (brighter / value), brighter)


def contrast(pixels: Float[Tensor, "n 3 h w"], factor: float) -> Float[Tensor, "n 3 h w"]:
    """Each channel drawn towards its mean over the image."""
    means = pixels.mean(dim=(2, 3), keepdim=True)
    return (pixels - means) * factor + means


def saturate(pixels: Float[Tensor, "n 3 h w"], factor: float, added: float) -> Float[Tensor, "n 3 h w"]:
    """HSV's saturation s becomes clip(factor s + added, 0, 1): the channels' distances below the largest one scale
    with it. A grey pixel has hue 0, so that it turns reddish where `added` is not 0, as published.
    """
    value, least = pixels.amax(dim=1, keepdim=True), pixels.amin(dim=1, keepdim=True)
    saturation = torch.where(value > 0, (value - least) / value, 0)
    wanted = (factor * saturation + added).clamp(0, 1)
    coloured = value - (value - pixels) * (wanted / saturation)
    red = torch.cat([value, value * (1 - wanted), value * (1 - wanted)], dim=1)
    return torch.where(saturation > 0, coloured, red)


def pixelate(pixels: Float[Tensor, "n 3 h w"], share: float) -> Float[Tensor, "n 3 h w"]:
    """Shrunk to `share` of the side by box means, and back to blocks; Pillow's BOX filter, level by level."""
    height, width = pixels.shape[2:]
    levels = (pixels * 255).round()
    # Columns before rows, with whole levels between, as Pillow does.
    for axis, side in ((3, max(1, int(width * share))), (2, max(1, int(height * share))), (3, width), (2, height)):
        levels = _box_resized(levels, axis, side)
    return levels / 255


def _box_resized(levels: Float[Tensor, "n 3 h w"], axis: int, side: int) -> Float[Tensor, "n 3 H W"]:
    starts, stops = (torch.from_numpy(bound).to(levels.device) for bound in _boxes(levels.shape[axis], side))
    if side >= levels.shape[axis]:
        return levels.index_select(axis, starts)  # boxes of one pixel
    # Sums from the start are whole numbers, exact in float32 up to 65,000 pixels a side.
    sums = F.pad(levels, (1, 0) if axis == 3 else (0, 0, 1, 0)).cumsum(dim=axis)
    counts = (stops - starts).to(levels)
    totals = sums.index_select(axis, stops) - sums.index_select(axis, starts)
    return (totals / (counts if axis == 3 else counts[:, None]) + 0.5).floor()


def _boxes(side: int, resized: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each output pixel the inputs [start, stop) that it is the mean of, by Pillow's steps in double precision:
    where a centre lies on the edge of a box, its rounding decides.
    """
    scale = side / resized
    breadth = max(scale, 1.0)
    centre = (np.arange(resized) + 0.5) * scale
    starts = (centre - 0.5 * breadth + 0.5).astype(np.int64).clip(min=0)
    stops = (centre + 0.5 * breadth + 0.5).astype(np.int64).clip(max=side)
    starts += (starts - centre + 0.5) * (1 / breadth) <= -0.5
    stops -= (stops - 1 - centre + 0.5) * (1 / breadth) > 0.5
    return starts, stops


def jpeg_compression(pixels: Float[Tensor, "n 3 h w"], quality: int) -> Float[Tensor, "n 3 h w"]:
    """Through a JPEG of `quality` with 4:2:0 chroma, image by image in Pillow: the corruption *is* libjpeg's integer
    arithmetic, which a batched transform would only approximate, at no gain in speed over its C code.
    """
    levels = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    compressed = np.stack([_through_jpeg(image, quality) for image in levels])
    return torch.from_numpy(compressed).permute(0, 3, 1, 2).to(pixels) / 255


def _through_jpeg(image: Canvas, quality: int) -> Canvas:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))
