"""How canvases are stored: lossless WebP or PNG, or JPEG for those who accept what it does to a perturbation."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from PIL import Image

from dad_datasets.decoding import decode_image
from dad_datasets.views import LARGEST_SIDE, Canvas

ImageFormat = Literal["webp", "png", "jpg"]

LOSSLESS: dict[ImageFormat, bool] = {"webp": True, "png": True, "jpg": False}

JPEG_QUALITY = 95


def encode_canvas(canvas: Canvas, image_format: ImageFormat) -> bytes:
    """The file bytes of a canvas, the same for the same pixels and library versions.

    WebP's lossless effort and PNG's level are the cheap ones: what the slower ones save is measured in
    benchmarks/LOG.md. JPEG is written at quality 95 without chroma subsampling.
    """
    image = Image.fromarray(canvas)
    stream = io.BytesIO()
    if image_format == "webp":
        image.save(stream, "WEBP", lossless=True, quality=25, method=1)
    elif image_format == "png":
        image.save(stream, "PNG", compress_level=4)
    else:
        image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


def decode_canvas(encoded: bytes) -> Canvas:
    """The pixels of a file that `encode_canvas` wrote. UndecodableImageError where it is none."""
    image = decode_image(encoded, max_pixels=LARGEST_SIDE**2)
    # What np.asarray(image) comes to, without its questions.
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)
