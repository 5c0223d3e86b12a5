"""The demo's second test set: scikit-learn's digits in MNIST's frame."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from dad_datasets.decoding import decode_image
from dad_datasets.sources import SourceSettings, open_source

SCRIPT = Path(__file__).parent.parent / "recipes" / "demo" / "digits.py"


def test_digits_stand_in_the_frame_of_mnist(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], check=True, capture_output=True)
    source = open_source(SourceSettings(path=str(tmp_path)))
    assert source.class_names == ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    samples = [sample for unit in source.plan(1000) for sample in source.read(unit)]
    digits = load_digits()
    assert [sample.label for sample in samples] == digits.target.tolist()
    for number in (0, 1, 1796):
        image = np.asarray(decode_image(samples[number].image))
        assert image.shape == (28, 28, 3)
        inner = image[4:24, 4:24, 0]
        assert image.sum() == 3 * inner.sum(), "black outside the 20 x 20 pixels, grey inside"
        # Shrunk again it is the digit, whose brightest value is 16.
        small = np.asarray(Image.fromarray(inner).resize((8, 8), Image.Resampling.BOX)) * (16 / 255)
        assert np.corrcoef(small.ravel(), digits.images[number].ravel())[0, 1] > 0.97
