"""Images whose colour says their class: a student that reads the colour knows every answer."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image


def colour_of(index: int) -> tuple[int, int, int]:
    """Red and green say the class, blue is 77: no class is black, white or a pure red."""
    return index // 32 * 8, index % 32 * 8, 77


def class_of(pixels: npt.NDArray[np.integer]) -> int:
    """The class that the colour of one pixel says."""
    return int(pixels[0]) // 8 * 32 + int(pixels[1]) // 8


@cache
def coded_png(index: int, width: int, height: int) -> bytes:
    """The same colour all over."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour_of(index)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def write_folders(root: Path, classes: Mapping[str, int], *, images: int = 1, size: tuple[int, int] = (8, 8)) -> Path:
    """A folder for each name, holding `images` images of the class that it stands for."""
    for folder, index in classes.items():
        (root / folder).mkdir(parents=True)
        for number in range(images):
            (root / folder / f"{number}.png").write_bytes(coded_png(index, *size))
    return root
