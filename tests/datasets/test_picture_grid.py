"""The picture grid: each picture where its title says."""

from __future__ import annotations

import numpy as np
import pytest

from dad_datasets.picture_grid import (
    AMPLIFICATION,
    GAP,
    SHOWN_SIDE,
    TEXT_HEIGHT,
    GridRow,
    amplified_difference,
    draw_grid,
)
from dad_datasets.views import Canvas

HEAD = 24


def plain(value: int, side: int = 16) -> Canvas:
    return np.full((side, side, 3), value, np.uint8)


def row(number: int, *, vqgan: bool, side: int = 16) -> GridRow:
    first = 40 * number
    return GridRow(
        caption=f"row {number}",
        clean=plain(first, side),
        vqgan=plain(first + 10, side) if vqgan else None,
        adversarial=plain(first + 13, side),
    )


def pictures(grid: np.ndarray, number: int, columns: int, per_row: int) -> list[np.ndarray]:
    """The places of the pictures of view `number`."""
    left = (number % columns) * (per_row * (SHOWN_SIDE + GAP) + GAP) + GAP
    top = HEAD + (number // columns) * (SHOWN_SIDE + TEXT_HEIGHT)
    starts = [left + place * (SHOWN_SIDE + GAP) for place in range(per_row)]
    return [grid[top : top + SHOWN_SIDE, start : start + SHOWN_SIDE] for start in starts]


def test_the_difference_is_amplified_round_grey() -> None:
    adversarial = np.array([[[10, 100, 200]]], np.uint8)
    reference = np.array([[[11, 100, 100]]], np.uint8)
    assert amplified_difference(adversarial, reference).tolist() == [[[128 - AMPLIFICATION, 128, 255]]]
    assert amplified_difference(reference, adversarial).tolist() == [[[128 + AMPLIFICATION, 128, 0]]]


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("vqgan", [True, False])
@pytest.mark.parametrize("side", [16, 28, SHOWN_SIDE, 224])
def test_pictures_stand_in_their_places(columns: int, vqgan: bool, side: int) -> None:
    grid = np.asarray(draw_grid([row(number, vqgan=vqgan, side=side) for number in range(3)], columns=columns))
    for number in range(3):
        first = 40 * number
        values = [first, *([first + 10] if vqgan else []), first + 13, 128 + AMPLIFICATION * (3 if vqgan else 13)]
        found = pictures(grid, number, columns, len(values))
        for picture, value in zip(found, values, strict=True):
            assert picture.shape == (SHOWN_SIDE, SHOWN_SIDE, 3)
            assert (picture == value).all()


def test_one_view_without_vqgan_leaves_that_column_out() -> None:
    grid = np.asarray(draw_grid([row(0, vqgan=True), row(1, vqgan=False)], columns=1))
    assert grid.shape[1] == 3 * (SHOWN_SIDE + GAP) + GAP


def test_small_images_are_enlarged_by_whole_pixels() -> None:
    canvas = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    view = GridRow(caption="", clean=canvas, vqgan=None, adversarial=canvas)
    clean = pictures(np.asarray(draw_grid([view])), 0, 1, 3)[0]
    assert np.array_equal(clean, canvas.repeat(10, axis=0).repeat(10, axis=1))


def test_titles_and_captions_are_drawn_between_the_pictures() -> None:
    grid = np.asarray(draw_grid([row(0, vqgan=True)]))
    below = grid[HEAD + SHOWN_SIDE :]
    for text in (grid[:HEAD], below):
        assert text.min() == 0
        assert np.median(text) == 255
    without = GridRow(caption="", clean=plain(0), vqgan=None, adversarial=plain(0))
    assert np.asarray(draw_grid([without]))[HEAD + SHOWN_SIDE :].min() == 255
