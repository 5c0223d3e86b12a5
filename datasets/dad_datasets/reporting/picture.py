"""Pixels inside the page: small pictures as they are, large ones made smaller, each of bounded size."""

from __future__ import annotations

import base64
import io

from PIL import Image

from dad_datasets.reporting.markup import Markup, element
from dad_datasets.views import Canvas

SHOWN_SIDE = 160
"""Larger pictures are made smaller to this many pixels a side."""

EXACT_SIDE = 64
"""Up to this side a picture is stored without loss."""

MOST_BYTES = 16_000
"""Of one picture's file: with 48 on a page, its pictures stay below 1.1 MB as text."""

QUALITIES = (90, 75, 50, 20, 1)


def picture(canvas: Canvas, description: str) -> Markup:
    """An `img` element with the pixels in it. `description` is read out in place of the picture."""
    content = base64.b64encode(picture_bytes(canvas)).decode()
    height, width = canvas.shape[:2]
    return element(
        "img",
        src=f"data:image/webp;base64,{content}",
        alt=description,
        width=width,
        height=height,
        class_="exact" if max(width, height) <= EXACT_SIDE else None,
    )


def picture_bytes(canvas: Canvas) -> bytes:
    """WebP of at most MOST_BYTES, the same for the same pixels and library versions."""
    image = Image.fromarray(canvas)
    if max(image.size) <= EXACT_SIDE:
        return _encoded(image, lossless=True, quality=50)
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    for quality in QUALITIES:
        content = _encoded(image, lossless=False, quality=quality)
        if len(content) <= MOST_BYTES:
            break
    return content


def _encoded(image: Image.Image, *, lossless: bool, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "WEBP", lossless=lossless, quality=quality, method=4)
    return stream.getvalue()
