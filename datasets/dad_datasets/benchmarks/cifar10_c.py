"""CIFAR-10-C as published: one array of 50,000 images for each corruption, 10,000 for each severity in turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from dad_datasets.benchmarks.benchmark import BenchmarkImage, Condition
from dad_datasets.benchmarks.corruption_names import CorruptionName
from dad_datasets.errors import UserError
from dad_datasets.sources.clean_source import identity_of

NUM_CLASSES, SIDE, NUM_SEVERITIES = 10, 32, 5
NUM_IMAGES = 10_000
"""In each severity."""


def open_cifar10_c(
    path: str, names: Sequence[CorruptionName], severities: Sequence[int], *, origin: str
) -> Mapping[Condition, ArrayImages]:
    """The images of each condition, from arrays that stay on the disk.

    UserError where a file is missing, is no array, or has not the published shape and type.
    """
    folder = Path(path)
    rows_in_all = NUM_SEVERITIES * NUM_IMAGES
    labels = _open(folder / "labels.npy", (rows_in_all,), np.integer, origin).astype(np.int64)
    if wrong := sorted(set(labels.tolist()) - set(range(NUM_CLASSES))):
        raise UserError(f"{origin}: {folder}/labels.npy holds {wrong[0]}; labels of CIFAR-10 are 0 to 9")
    conditions = {}
    for name in names:
        file = folder / f"{name}.npy"
        pixels = _open(file, (rows_in_all, SIDE, SIDE, 3), np.uint8, origin)
        for severity in severities:
            rows = slice((severity - 1) * NUM_IMAGES, severity * NUM_IMAGES)
            images = ArrayImages(file, pixels[rows], labels[rows])
            conditions[Condition(corruption=name, severity=severity)] = images
    return conditions


class ArrayImages:
    """Images that stand in an array, in its order."""

    def __init__(self, file: Path, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> None:
        self._file = file
        self._pixels = pixels
        self._labels = labels

    def __len__(self) -> int:
        return len(self._pixels)

    def __iter__(self) -> Iterator[BenchmarkImage]:
        for row, label in enumerate(self._labels.tolist()):
            yield BenchmarkImage(key=f"{row:05d}", label=label, load=partial(Image.fromarray, self._pixels[row]))

    def identity(self) -> str:
        labels = self._file.with_name("labels.npy")
        return identity_of((file.name, file.stat().st_size) for file in (self._file, labels))


def _open(file: Path, shape: tuple[int, ...], kind: type, origin: str) -> npt.NDArray[np.uint8]:
    try:
        array: npt.NDArray[np.uint8] = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{origin}: there is no {file}") from None
    except (OSError, ValueError, EOFError):
        raise UserError(f"{origin}: {file} is not a NumPy array") from None
    if array.shape != shape or not np.issubdtype(array.dtype, kind):
        raise UserError(f"{origin}: {file} holds {array.dtype} {array.shape}; published is uint8 {shape}")
    return array
