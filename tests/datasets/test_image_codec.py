"""The stored image formats: lossless ones give the very pixels back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from dad_datasets.decoding import UndecodableImageError
from dad_datasets.image_codec import LOSSLESS, ImageFormat, decode_canvas, encode_canvas
from dad_datasets.sources.image_types import image_type
from dad_datasets.views import Canvas

CANVASES = arrays.arrays(np.uint8, st.integers(1, 24).map(lambda side: (side, side, 3)))


@given(CANVASES, st.sampled_from([name for name, lossless in LOSSLESS.items() if lossless]))
@settings(deadline=None)
def test_lossless_formats_are_the_identity(canvas: Canvas, image_format: ImageFormat) -> None:
    encoded = encode_canvas(canvas, image_format)
    assert np.array_equal(decode_canvas(encoded), canvas)
    assert encode_canvas(canvas, image_format) == encoded
    assert image_type(encoded) == image_format


def test_the_default_is_lossless_and_jpeg_is_not() -> None:
    assert LOSSLESS == {"webp": True, "png": True, "jpg": False}
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    encoded = encode_canvas(noise, "jpg")
    change = np.abs(decode_canvas(encoded).astype(int) - noise)
    assert image_type(encoded) == "jpg"
    assert 0 < change.mean() < 8


def test_jpeg_keeps_the_colour_of_single_pixels() -> None:
    # With chroma subsampling, red beside blue would come back as two purples.
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 255
    assert np.abs(decode_canvas(encode_canvas(stripes, "jpg")).astype(int) - stripes).max() < 40


def test_grey_files_become_rgb_and_others_are_refused() -> None:
    canvas = np.full((4, 4), 7, np.uint8)
    assert Image.fromarray(canvas).mode == "L"
    assert decode_canvas(encode_canvas(canvas, "png")).shape == (4, 4, 3)
    with pytest.raises(UndecodableImageError, match="not an image"):
        decode_canvas(b"no image")
