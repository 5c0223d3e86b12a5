"""Canny's edges of 8-bit layers and the distance to them, as OpenCV defines them; spatter's water needs both."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from dad_datasets.corruptions.stencil import correlate, grow

_CHAMFER = ((1.0, 0.1969), (0.1969, 1.0), (0.7969, 0.6031), (0.6031, 0.7969))
_SOBEL_RIGHT = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))
_SOBEL_DOWN = ((-1, -2, -1), (0, 0, 0), (1, 2, 1))
_TAN_22_5_DEG, _TAN_67_5_DEG = math.tan(math.pi / 8), math.tan(3 * math.pi / 8)


def canny(layers: Float[Tensor, "n 1 h w"], low: float, high: float) -> Bool[Tensor, "n 1 h w"]:
    """Edges of layers with levels 0 ... 255: Sobel gradients in the L1 norm, thinned to local maxima along one of four
    directions; those above `high`, and those above `low` that touch an edge.
    """
    right, down = correlate(layers, _SOBEL_RIGHT, "edge"), correlate(layers, _SOBEL_DOWN, "edge")
    strength = right.abs() + down.abs()
    around = F.pad(strength, (1, 1, 1, 1))

    def neighbour(row: int, column: int) -> Float[Tensor, "n 1 h w"]:
        return around[:, :, 1 + row : 1 + row + layers.shape[2], 1 + column : 1 + column + layers.shape[3]]

    # Of two equal neighbours along the gradient the first is taken, so that a plateau of two gives one edge.
    across = (strength > neighbour(0, -1)) & (strength >= neighbour(0, 1))
    along = (strength > neighbour(-1, 0)) & (strength >= neighbour(1, 0))
    falling = (strength > neighbour(-1, -1)) & (strength > neighbour(1, 1))
    rising = (strength > neighbour(-1, 1)) & (strength > neighbour(1, -1))
    diagonal = torch.where(right * down >= 0, falling, rising)
    steep = down.abs() > _TAN_67_5_DEG * right.abs()
    flat = down.abs() < _TAN_22_5_DEG * right.abs()
    candidates = torch.where(flat, across, torch.where(steep, along, diagonal)) & (strength > low)
    edges = candidates & (strength > high)
    while True:
        grown = grow(edges) & candidates
        if torch.equal(grown, edges):
            return edges
        edges = grown


def distance_to(edges: Bool[Tensor, "n 1 h w"], limit: int) -> Float[Tensor, "n 1 h w"]:
    """Distance in pixels to the nearest edge, at most `limit`: OpenCV's, within 2 % of the Euclidean one.

    It is the length of the shortest chain of steps to the neighbours (1), diagonally (1.4) and by a knight's move
    (2.1969); for d rows and e columns that is the largest of four weighted sums of d and e.
    """
    height, width = edges.shape[2:]
    column = torch.arange(width, device=edges.device)
    far = width + limit
    left = torch.where(edges, column, -far).cummax(dim=3).values
    right = torch.where(edges, column, far + width).flip(3).cummin(dim=3).values.flip(3)
    in_row = torch.minimum(column - left, right - column).clamp(max=limit)
    columns = torch.arange(limit + 1, device=edges.device)
    nearest = torch.full(edges.shape, float(limit), device=edges.device)
    for rows in range(limit):
        chains = torch.stack([columns * across + rows * down for across, down in _CHAMFER]).amax(dim=0)
        # In each row its nearest edge is the nearest of all: more columns are never less far.
        away = chains.index_select(0, in_row.flatten()).view_as(nearest)
        reached = max(0, height - rows)
        for there, here in ((away[:, :, rows:], nearest[:, :, :reached]), (away[:, :, :reached], nearest[:, :, rows:])):
            torch.minimum(here, there, out=here)
    return nearest
