"""A picture of what was done: clean, VQGAN only, adversarial, and their difference amplified, a row for each view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from dad_datasets.views import Canvas

AMPLIFICATION = 8
SHOWN_SIDE = 160
GAP = 8
TEXT_HEIGHT = 46


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """One view. `vqgan` is None where the quantizer is not at hand."""

    caption: str
    clean: Canvas
    vqgan: Canvas | None
    adversarial: Canvas


def amplified_difference(adversarial: Canvas, reference: Canvas, times: int = AMPLIFICATION) -> Canvas:
    """`times` (adversarial - reference) round mid-grey: grey means no change."""
    difference = adversarial.astype(np.int16) - reference.astype(np.int16)
    amplified: npt.NDArray[np.uint8] = np.clip(128 + times * difference, 0, 255).astype(np.uint8)
    return amplified


def draw_grid(rows: Sequence[GridRow], *, columns: int = 2) -> Image.Image:
    """The grid as one RGB image, `columns` views side by side. The difference is to the VQGAN's image where known."""
    assert rows
    with_vqgan = all(row.vqgan is not None for row in rows)
    reference = "VQGAN only" if with_vqgan else "clean"
    titles = [
        "clean",
        *(["VQGAN only"] if with_vqgan else []),
        "adversarial",
        f"{AMPLIFICATION} x (adv. - {reference})",
    ]
    cell_width = len(titles) * (SHOWN_SIDE + GAP) + GAP
    cell_height = SHOWN_SIDE + TEXT_HEIGHT
    columns = min(columns, len(rows))
    lines = -(-len(rows) // columns)
    picture = Image.new("RGB", (columns * cell_width, 24 + lines * cell_height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for number, row in enumerate(rows):
        left = (number % columns) * cell_width + GAP
        top = 24 + (number // columns) * cell_height
        vqgan = [row.vqgan] if with_vqgan and row.vqgan is not None else []
        difference = amplified_difference(row.adversarial, vqgan[0] if vqgan else row.clean)
        for place, canvas in enumerate([row.clean, *vqgan, row.adversarial, difference]):
            picture.paste(_enlarged(canvas), (left + place * (SHOWN_SIDE + GAP), top))
        draw.multiline_text((left, top + SHOWN_SIDE + 3), row.caption, fill="black", font=font)
        if number < columns:
            for place, title in enumerate(titles):
                draw.text((left + place * (SHOWN_SIDE + GAP), 4), title, fill="black", font=font)
    return picture


def _enlarged(canvas: Canvas) -> Image.Image:
    # Small images by whole pixels, so that single ones can be seen; large ones smoothly.
    small = canvas.shape[0] < SHOWN_SIDE
    return Image.fromarray(canvas).resize(
        (SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    )
