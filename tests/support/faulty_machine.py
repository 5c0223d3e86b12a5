"""Images and environments for Pythons whose decoder crashes or hangs: see faulty_python/sitecustomize.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from PIL import Image, PngImagePlugin

FAULTY_PYTHON = Path(__file__).with_name("faulty_python")


def make_fatal(path: Path, how: Literal["crashes", "hangs"]) -> None:
    """The same PNG image, on which a faulty Python's decoder crashes or hangs."""
    note = PngImagePlugin.PngInfo()
    note.add_text("note", f"this image {how} the decoder")
    Image.open(path).save(path, pnginfo=note)


def faulty_environment(**more: str) -> dict[str, str]:
    """The environment of a process whose Pythons are faulty."""
    path = os.pathsep.join([str(FAULTY_PYTHON), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **more}
