"""scikit-learn's 1,797 handwritten digits in MNIST's frame, as a Parquet file in the layout of the Hugging Face hub.

    python recipes/demo/digits.py runs/demo/digits

Other writers, another scanner: 8 x 8 pixels of 17 grey levels, from 32 x 32 bitmaps (UCI, Alpaydin and Kaynak, 1998).
They are enlarged to the 20 x 20 pixels that a digit of MNIST fills, with MNIST's border round them. No model sees them
before it is evaluated on them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from mnist import parquet_table, write_split
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

LEVELS = 16  # the brightest value
DIGIT, BORDER = 20, 4  # pixels


def framed(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A digit [8, 8] of values 0..16 as MNIST shows one: uint8 [28, 28]."""
    small = Image.fromarray(np.round(image * (255 / LEVELS)).astype(np.uint8))
    large = np.asarray(small.resize((DIGIT, DIGIT), Image.Resampling.BICUBIC))
    return np.pad(large, BORDER)


def write_digits(folder: Path) -> None:
    """`test-00000-of-00001.parquet` under `folder`."""
    digits = load_digits()
    images = np.stack([framed(image) for image in digits.images])
    rows = np.arange(len(images))
    folder.mkdir(parents=True, exist_ok=True)
    write_split(folder, "test", parquet_table(images, digits.target, rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write the Parquet file to")
    write_digits(parser.parse_args().out)
