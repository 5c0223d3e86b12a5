"""Gaussian smoothing as two matrix products: exact at the borders, and for kernels wider than the image too."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dad_datasets.corruptions.borders import Border, border_index


def smooth(
    images: Float[Tensor, "n c h w"], sigma: float, border: Border = "edge", truncate: float = 4.0
) -> Float[Tensor, "n c h w"]:
    """Each channel smoothed with standard deviation `sigma` in pixels, the kernel cut at `truncate` sigmas.

    scipy.ndimage.gaussian_filter with mode "nearest" (`border="edge"`, skimage's default) or "reflect" ("symmetric").
    """
    rows, columns = (_matrix(size, sigma, border, truncate).to(images) for size in images.shape[2:])
    return rows @ images @ columns.T


def _matrix(size: int, sigma: float, border: Border, truncate: float) -> Float[Tensor, "size size"]:
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return torch.eye(size)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    matrix = np.zeros((size, size))
    pixel = border_index(size, radius, border)
    for output in range(size):
        np.add.at(matrix[output], pixel[output : output + 2 * radius + 1], weights / weights.sum())
    return torch.from_numpy(matrix)
