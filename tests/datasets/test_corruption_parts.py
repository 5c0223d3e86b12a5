"""What the corruptions are made of, against scipy, OpenCV, Pillow and loops that are right by their simplicity."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from imagecorruptions import corruptions as fork
from PIL import Image
from scipy import ndimage

from dad_datasets.corruptions.blur import clipped_zoom, disk
from dad_datasets.corruptions.borders import Border
from dad_datasets.corruptions.digital import pixelate
from dad_datasets.corruptions.draws import normals, uniforms
from dad_datasets.corruptions.edges import canny, distance_to
from dad_datasets.corruptions.gaussian import smooth
from dad_datasets.corruptions.glass import scatter
from dad_datasets.corruptions.motion import motion_taps
from dad_datasets.corruptions.spatter import equalise
from dad_datasets.corruptions.strengths import TABLES
from dad_datasets.seeding import generator_for


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(7, 20), st.integers(7, 20), st.integers(0, 2**32))
def test_scatter_is_the_published_loop(reach: int, height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    down, right = rng.integers(-reach, reach, (2, 2, height - 2 * reach, width - 2 * reach))
    found = scatter(torch.from_numpy(down), torch.from_numpy(right), height, width, reach)
    for number in range(2):
        image = np.repeat(np.arange(height * width).reshape(height, width, 1), 3, axis=2)
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                at = (number, row - reach - 1, column - reach - 1)
                other = (row + down[at], column + right[at])
                image[row, column], image[other] = image[other], image[row, column]
        np.testing.assert_array_equal(found[number].reshape(height, width), image[:, :, 0])


@pytest.mark.parametrize(("border", "mode"), [("edge", "nearest"), ("symmetric", "reflect"), ("reflect", "mirror")])
@pytest.mark.parametrize("sigma", [0.05, 0.25, 1.5, 40.0])
def test_smooth_is_scipys_gaussian_filter(border: Border, mode: str, sigma: float) -> None:
    image = np.random.default_rng(0).random((9, 14))
    expected = ndimage.gaussian_filter(image, sigma, mode=mode, truncate=3)  # at sigma 40 far wider than the image
    found = smooth(torch.from_numpy(image)[None, None], sigma, border, truncate=3.0)[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_disks_are_the_published_kernels() -> None:
    for table in TABLES.values():
        for radius, alias in table["defocus_blur"]:
            expected = fork.disk(radius, alias)
            kernel = disk(radius, alias).numpy()
            margin = (len(expected) - len(kernel)) // 2
            np.testing.assert_allclose(np.pad(kernel, margin), expected, atol=1e-7)


@given(st.floats(-180, 180), st.integers(1, 20), st.floats(0.5, 15))
def test_motion_taps_are_half_a_gaussian_along_a_line(angle: float, radius: int, sigma: float) -> None:
    down, right, weight = np.array(list(motion_taps(angle, radius, sigma))).T
    steps = np.arange(2 * radius + 1)
    assert len(weight) == 2 * radius + 1
    assert weight.sum() == pytest.approx(1)
    smallest = np.finfo(np.float64).tiny  # below it numbers have no relative precision
    np.testing.assert_allclose(weight / weight[0], np.exp(-((steps / sigma) ** 2) / 2), atol=smallest)
    assert np.abs(down - steps * np.sin(np.radians(angle))).max() <= 0.5 + 1e-9
    assert np.abs(right - steps * np.cos(np.radians(angle))).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("factor", [1.0, 1.11, 1.25, 1.75, 2.25, 3.0, 4.5])
@pytest.mark.parametrize("side", [32, 47])
def test_clipped_zoom_is_scipys_in_the_middle(factor: float, side: int) -> None:
    image = np.random.default_rng(0).random((side, side))
    crop = int(np.ceil(side / factor))
    top = (side - crop) // 2
    whole = ndimage.zoom(image[top : top + crop, top : top + crop], factor, order=1)
    trim = (len(whole) - side) // 2
    found = clipped_zoom(torch.from_numpy(image)[None, None], factor)[0, 0]
    np.testing.assert_allclose(found, whole[trim : trim + side, trim : trim + side], atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(5, 80), st.integers(5, 80), st.sampled_from([0.95, 0.9, 0.85, 0.75, 0.65, 0.6, 0.5, 0.4, 0.3, 0.25]))
def test_pixelate_is_pillows_box_filter(height: int, width: int, share: float) -> None:
    canvas = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    small = Image.fromarray(canvas).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    expected = np.asarray(small.resize((width, height), Image.Resampling.BOX)).astype(int)
    found = (pixelate(torch.from_numpy(canvas).permute(2, 0, 1)[None] / 255, share) * 255).round()
    assert np.abs(found[0].permute(1, 2, 0).numpy() - expected).max() <= 1  # Pillow's weights have 22 bits


def drops(seed: int, smoothing: float, spread: float) -> np.ndarray:
    """uint8 [40, 50]: what spatter's water looks like before it is shaded."""
    layer = ndimage.gaussian_filter(0.65 + spread * np.random.default_rng(seed).standard_normal((40, 50)), smoothing)
    return (np.where(layer < 0.69, 0, layer).clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize(("smoothing", "spread"), [(0.7, 0.1), (1, 0.3), (2, 0.3), (4, 0.3)])
def test_edges_distances_and_equalising_are_opencvs(smoothing: float, spread: float) -> None:
    num_edges = 0
    for seed in range(10):
        levels = drops(seed, smoothing, spread)
        edges = cv2.Canny(levels, 50, 150)
        as_layer = torch.from_numpy(levels).float()[None, None]
        np.testing.assert_array_equal(canny(as_layer, 50.0, 150.0)[0, 0], edges > 0)
        num_edges += int((edges > 0).sum())
        distance = np.minimum(cv2.distanceTransform(255 - edges, cv2.DIST_L2, 5), 20)
        found = distance_to(torch.from_numpy(edges > 0)[None, None], 20)[0, 0]
        np.testing.assert_allclose(found, distance, atol=1e-4)
        whole = distance.astype(np.uint8)
        equalised = equalise(torch.from_numpy(whole).float()[None, None])[0, 0]
        np.testing.assert_array_equal(equalised, cv2.equalizeHist(whole))
    assert num_edges > 50


def test_without_edges_everything_is_far_and_stays_level() -> None:
    far = distance_to(torch.zeros(1, 1, 4, 5, dtype=torch.bool), 20)
    assert torch.equal(far, torch.full((1, 1, 4, 5), 20.0))
    assert torch.equal(equalise(far), far)


def test_draws_have_their_distributions() -> None:
    normal = normals([generator_for("draws", 0), generator_for("draws", 1)], 50, 400)
    assert normal.shape == (2, 50, 400)
    assert normal.mean().abs() < 0.02  # four standard errors of 40,000
    assert abs(normal.std() - 1) < 0.015
    assert (normal[0] != normal[1]).any()
    uniform = uniforms([generator_for("draws", 0)], -45.0, 45.0, 40000)
    assert -45 <= uniform.min() < -44.9
    assert 44.9 < uniform.max() < 45
    assert uniform.mean().abs() < 0.6
