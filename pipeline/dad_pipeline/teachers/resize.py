"""Resizing as two fixed matrix products, so that its gradient is deterministic on every device."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

ResizeFilter = Literal["bilinear", "bicubic"]


@lru_cache(maxsize=64)
def resize_matrix(size_in: int, size_out: int, mode: ResizeFilter) -> Float[Tensor, "out in"]:
    """The antialiased resampling of one axis as a matrix, float32 on the CPU: torch's filter applied to the identity.

    Each row sums to 1. torch's kernel (bicubic a = -0.5 with antialias) is torchvision's and open_clip's on tensors.
    """
    identity = torch.eye(size_in, dtype=torch.float64)[None, None]
    rows = F.interpolate(identity, size=(size_out, size_in), mode=mode, antialias=True, align_corners=False)
    return rows[0, 0].float()


def resize(pixels: Float[Tensor, "b c h w"], size: tuple[int, int], mode: ResizeFilter) -> Float[Tensor, "b c h2 w2"]:
    """`pixels` resampled to `size` (height, width). Bicubic may overshoot the range of its input; nothing is clamped.

    Two matrix products replace `interpolate`: torch's CUDA backward of bicubic interpolation adds with atomics, whose
    order, and so whose last bits, change from run to run.
    """
    height, width = pixels.shape[-2:]
    if (height, width) == size:
        return pixels
    down = resize_matrix(height, size[0], mode).to(pixels)
    across = resize_matrix(width, size[1], mode).to(pixels)
    return torch.matmul(torch.matmul(down, pixels), across.T)
