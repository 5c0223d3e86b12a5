"""The resize as matrix products, against torch's own antialiased interpolation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dad_pipeline.teachers.resize import ResizeFilter, resize, resize_matrix

MODES = st.sampled_from(["bilinear", "bicubic"])
SIZES = st.integers(4, 40)


@given(mode=MODES, height=SIZES, width=SIZES, new_height=SIZES, new_width=SIZES)
@settings(max_examples=60, deadline=None)
def test_equals_interpolate(mode: ResizeFilter, height: int, width: int, new_height: int, new_width: int) -> None:
    pixels = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    size = (new_height, new_width)
    # float64, because torch's own float32 is the coarser one: 4e-6 from this, where the matrices are within 3e-7
    expected = F.interpolate(pixels.double(), size=size, mode=mode, antialias=True, align_corners=False)
    assert (resize(pixels, size, mode) - expected).abs().max() < 1e-6


@given(mode=MODES, size_in=SIZES, size_out=SIZES)
@settings(max_examples=60, deadline=None)
def test_rows_sum_to_one(mode: ResizeFilter, size_in: int, size_out: int) -> None:
    matrix = resize_matrix(size_in, size_out, mode)
    assert matrix.shape == (size_out, size_in)
    assert torch.allclose(matrix.sum(1), torch.ones(size_out), atol=1e-6)


def test_the_size_it_has_already_changes_nothing() -> None:
    pixels = torch.rand(1, 3, 9, 7)
    assert resize(pixels, (9, 7), "bicubic") is pixels


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_gradient(mode: ResizeFilter) -> None:
    pixels = torch.rand(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resize(x, (3, 8), mode), pixels)


def test_bicubic_overshoots_and_is_not_clamped() -> None:
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 1
    enlarged = resize(edge, (16, 16), "bicubic")
    assert enlarged.max() > 1.01
    assert enlarged.min() < -0.01
