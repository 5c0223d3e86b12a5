"""Elastic transform: a random affine map, then a smooth random displacement of every pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dad_datasets.corruptions.draws import uniforms
from dad_datasets.corruptions.gaussian import smooth


def elastic_transform(
    pixels: Float[Tensor, "n 3 h w"],
    generators: Sequence[np.random.Generator],
    size: float,
    smoothing: float,
    affine_move: float,
) -> Float[Tensor, "n 3 h w"]:
    """Two resamplings, both bilinear and mirrored at the borders: the affine map, then `size` times uniform noise in
    [-1, 1) smoothed by `smoothing`, all in pixels.
    """
    moves = uniforms(generators, -affine_move, affine_move, 3, 2)
    noise = uniforms(generators, -1.0, 1.0, 2, *pixels.shape[2:]).to(pixels)
    rows, columns = affine_positions(moves, *pixels.shape[2:])
    turned = resample(pixels, rows.to(pixels), columns.to(pixels), about_centres=True)
    down, right = (size * smooth(noise, smoothing, border="symmetric", truncate=3.0)).unbind(1)
    at_row, at_column = (torch.arange(side).to(pixels) for side in pixels.shape[2:])
    return resample(turned, at_row[:, None] + down, at_column + right, about_centres=False)


def affine_positions(
    moves: Float[Tensor, "n 3 2"], height: int, width: int
) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """Where each output pixel (row, column) comes from, when three points round the centre move by `moves` (x, y)."""
    centre_x, centre_y, arm = width // 2, height // 2, min(height, width) // 3
    points = torch.tensor(
        [[centre_x + arm, centre_y + arm], [centre_x + arm, centre_y - arm], [centre_x - arm, centre_y - arm]],
        dtype=torch.float64,
    )
    ones = torch.ones(len(moves), 3, 1, dtype=torch.float64)
    back = torch.linalg.solve(torch.cat([points + moves, ones], dim=2), points.expand(len(moves), -1, -1))  # [n, 3, 2]
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    source = torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(0, 1) @ back
    return source[:, :, 1].view(-1, height, width), source[:, :, 0].view(-1, height, width)


def resample(
    images: Float[Tensor, "n c h w"],
    rows: Float[Tensor, "n h w"],
    columns: Float[Tensor, "n h w"],
    *,
    about_centres: bool,
) -> Float[Tensor, "n c h w"]:
    """Bilinear values at fractional positions; beyond the border, mirrored about the outermost pixels' centres
    (OpenCV's reflect-101) or about their outer edges (scipy's reflect).
    """
    scaled = []
    for position, side in ((columns, images.shape[3]), (rows, images.shape[2])):
        scaled.append(2 * position / max(side - 1, 1) - 1 if about_centres else (2 * position + 1) / side - 1)
    grid = torch.stack(scaled, dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=about_centres)
