"""Views: drawn within their bounds and by their law, replayed bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms import RandomResizedCrop

from dad_datasets.views import (
    CentreView,
    DrawnView,
    PadCropView,
    RandomResizedCropView,
    ResizeName,
    View,
    ViewsSettings,
    draw_view,
    replay,
)

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
SIDES = st.integers(1, 300)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("resize", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_replay_is_pillows_crop_resize_flip(resize: ResizeName, flip: bool) -> None:
    view = View(index=0, box=(7, 3, 31, 38), size=16, resize=resize, flip=flip)
    by_hand = Image.fromarray(PIXELS[3:38, 7:31]).resize((16, 16), Image.Resampling[resize.upper()])
    expected = np.asarray(by_hand)[:, ::-1] if flip else np.asarray(by_hand)
    canvas = replay(Image.fromarray(PIXELS), view)
    assert canvas.dtype == np.uint8
    assert np.array_equal(canvas, expected)


def test_a_crop_of_the_canvas_size_keeps_its_pixels() -> None:
    view = View(index=0, box=(5, 6, 21, 22), size=16, resize="bicubic", flip=False)
    assert np.array_equal(replay(Image.fromarray(PIXELS), view), PIXELS[6:22, 5:21])


def test_the_filter_does_not_see_beyond_the_box() -> None:
    outside_changed = PIXELS.copy()
    outside_changed[:, :10] = outside_changed[:, 30:] = 255
    view = View(index=0, box=(10, 10, 30, 30), size=8, resize="lanczos", flip=False)
    assert np.array_equal(replay(Image.fromarray(PIXELS), view), replay(Image.fromarray(outside_changed), view))


@given(box=st.tuples(*[st.integers(-12, 12)] * 2), flip=st.booleans())
def test_beyond_the_edges_is_black(box: tuple[int, int], flip: bool) -> None:
    white = Image.new("RGB", (10, 10), "white")
    left, top = box
    canvas = replay(white, View(index=0, box=(left, top, left + 10, top + 10), size=10, resize="bicubic", flip=flip))
    rows, columns = np.mgrid[top : top + 10, left : left + 10]
    inside = (rows >= 0) & (rows < 10) & (columns >= 0) & (columns < 10)
    expected = np.repeat(np.where(inside, 255, 0)[..., None], 3, axis=2)
    assert np.array_equal(canvas, expected[:, ::-1] if flip else expected)


@given(SIDES, SIDES, st.floats(0.01, 1))
def test_centre_is_a_centred_square(width: int, height: int, fraction: float) -> None:
    (left, top, right, bottom), flip = CentreView(fraction=fraction).draw(width, height, 32, rng())
    assert right - left == bottom - top == max(1, round(fraction * min(width, height)))
    assert 0 <= (width - right) - left <= 1
    assert 0 <= (height - bottom) - top <= 1
    assert not flip


@given(SIDES, SIDES, st.integers(0, 2**32), st.sampled_from([(3 / 4, 4 / 3), (3.0, 4.0), (0.1, 0.2), (1.0, 1.0)]))
def test_random_resized_crop_stays_inside(width: int, height: int, seed: int, ratio: tuple[float, float]) -> None:
    (left, top, right, bottom), _ = RandomResizedCropView(ratio=ratio).draw(width, height, 32, rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@pytest.mark.parametrize(("width", "height"), [(500, 375), (120, 400)])
def test_random_resized_crop_has_torchvisions_law(width: int, height: int) -> None:
    view, generator, count = RandomResizedCropView(), rng(1), 4000
    ours = np.array([view.draw(width, height, 224, generator)[0] for _ in range(count)])
    image = torch.zeros(3, height, width)
    torch.manual_seed(1)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    )  # top, left, height, width

    def figures(left: np.ndarray, top: np.ndarray, w: np.ndarray, h: np.ndarray) -> np.ndarray:
        # What is left of the image on each side is used up evenly: the place, with the size taken out.
        return np.stack([w * h / (width * height), np.log(w / h), (left + w / 2) / width, (top + h / 2) / height])

    a = figures(ours[:, 0], ours[:, 1], ours[:, 2] - ours[:, 0], ours[:, 3] - ours[:, 1])
    b = figures(theirs[:, 1], theirs[:, 0], theirs[:, 3], theirs[:, 2])
    error = np.sqrt((a.var(axis=1) + b.var(axis=1)) / count)
    assert (np.abs(a.mean(axis=1) - b.mean(axis=1)) < 4 * error).all()
    assert np.allclose(a.std(axis=1), b.std(axis=1), rtol=0.08)


@pytest.mark.parametrize(("width", "height"), [(1000, 10), (10, 1000), (7, 400)])
def test_random_resized_crop_falls_back_as_torchvision(width: int, height: int) -> None:
    scale = (1.0, 1.0)  # the whole area at a ratio of at most 4/3 never fits so long an image
    top, left, h, w = RandomResizedCrop.get_params(torch.zeros(3, height, width), list(scale), [3 / 4, 4 / 3])
    box, _ = RandomResizedCropView(scale=scale).draw(width, height, 32, rng())
    assert box == (left, top, left + w, top + h)


@given(SIDES, SIDES, st.integers(1, 256), st.integers(0, 8), st.integers(0, 2**32))
def test_pad_crop_stays_within_its_border(width: int, height: int, size: int, padding: int, seed: int) -> None:
    (left, top, right, bottom), _ = PadCropView(padding=padding).draw(width, height, size, rng(seed))
    side = min(width, height)
    border = round(padding * side / size)
    assert right - left == bottom - top == side
    assert -border <= left <= width - side + border
    assert -border <= top <= height - side + border


def test_pad_crop_reaches_every_offset_evenly() -> None:
    generator = rng(2)
    lefts = [PadCropView().draw(32, 32, 32, generator)[0][0] for _ in range(9000)]
    values, counts = np.unique(lefts, return_counts=True)
    assert values.tolist() == list(range(-4, 5))
    assert ((counts - 1000) ** 2 / 1000).sum() < 26.1  # chi squared of 8 degrees of freedom at 0.001


@pytest.mark.parametrize("kind", [RandomResizedCropView, PadCropView])
@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flip_probability(kind: type[RandomResizedCropView | PadCropView], probability: float) -> None:
    view, generator = kind(flip_probability=probability), rng(3)
    flips = np.mean([view.draw(40, 30, 32, generator)[1] for _ in range(2000)])
    assert abs(flips - probability) <= 4 * math.sqrt(probability * (1 - probability) / 2000)


@given(st.sampled_from([CentreView(), RandomResizedCropView(), PadCropView()]), SIDES, SIDES, st.integers(0, 2**32))
@settings(max_examples=50)
def test_equal_generators_draw_equal_views(kind: DrawnView, width: int, height: int, seed: int) -> None:
    chosen = ViewsSettings(size=16, draw=(kind,))
    one, two = (draw_view(kind, 3, chosen, (width, height), rng(seed)) for _ in range(2))
    assert one == two
    assert (one.index, one.size, one.resize) == (3, 16, "bicubic")
    assert replay(Image.new("RGB", (width, height)), one).shape == (16, 16, 3)


def test_views_are_numbered_in_order() -> None:
    chosen = ViewsSettings.model_validate(
        {"size": 8, "draw": [{"kind": "pad_crop", "count": 2}, {"kind": "centre", "attack": False}]}
    )
    assert [drawn.kind for drawn in chosen.each()] == ["pad_crop", "pad_crop", "centre"]
    assert chosen.attacked == (True, True, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 0},
        {"draw": []},
        {"resize": "area"},
        {"draw": [{"kind": "spiral"}]},
        {"draw": [{"kind": "centre", "fraction": 0}]},
        {"draw": [{"kind": "centre", "fraction": 1.1}]},
        {"draw": [{"kind": "centre", "count": 0}]},
        {"draw": [{"kind": "centre", "padding": 4}]},
        {"draw": [{"kind": "pad_crop", "padding": -1}]},
        {"draw": [{"kind": "pad_crop", "flip_probability": 1.5}]},
        {"draw": [{"kind": "random_resized_crop", "scale": [0.5, 0.1]}]},
        {"draw": [{"kind": "random_resized_crop", "scale": [0.5, 1.1]}]},
        {"draw": [{"kind": "random_resized_crop", "ratio": [0, 1]}]},
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ViewsSettings.model_validate({"size": 8, **fields})
