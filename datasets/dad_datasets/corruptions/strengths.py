"""Which corruptions there are, and the published strengths of their five severities.

Two tables, from the authors' scripts: ImageNet-C's for images of 224 px (`make_imagenet_c.py`) and CIFAR-10-C's own,
milder ones for 32 px (`make_cifar_c.py` in hendrycks/robustness). Lengths are in pixels and never scaled with the
image, so a table fits images near its own size. Counts and whole pixels are written as integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from dad_datasets.benchmarks.corruption_names import COMMON_NAMES, EXTRA_NAMES, CorruptionName

NUM_SEVERITIES = 5

StrengthsName = Literal["imagenet", "cifar"]

COMMON: tuple[CorruptionName, ...] = COMMON_NAMES
EXTRA: tuple[CorruptionName, ...] = EXTRA_NAMES

Table = Mapping[CorruptionName, Sequence[tuple[float, ...]]]

_ELASTIC_IMAGENET = 244  # the authors' slip for 224, kept: the published images were made with it
_ELASTIC_CIFAR = 32


def _scaled(side: int, rows: Sequence[tuple[float, float, float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(side * share for share in row) for row in rows)


IMAGENET: Table = {
    # standard deviation, in the units of pixels in [0, 1]
    "gaussian_noise": ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
    # photons of a white pixel
    "shot_noise": ((60.0,), (25.0,), (12.0,), (5.0,), (3.0,)),
    # share of the values that become 0 or 1
    "impulse_noise": ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
    # radius of the disk, sigma of its antialiasing
    "defocus_blur": ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5)),
    # sigma, largest displacement, rounds
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    # radius, sigma
    "motion_blur": ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0)),
    # end (excluded) and step of the zoom factors from 1
    "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    # mean and sigma of the noise, its zoom, threshold, radius and sigma of the motion, share of the image kept
    "snow": (
        (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
        (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
        (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
    ),
    # weight of the image, weight of the frost, step between the frost's pixels
    "frost": ((1.0, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1)),
    # thickness, decay of the fractal from each scale to the next
    "fog": ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)),
    # added to HSV's value
    "brightness": ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
    # factor on the distance from the channel's mean
    "contrast": ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
    # size and smoothing of the displacements, largest move of the affine map's three points
    "elastic_transform": _scaled(
        _ELASTIC_IMAGENET,
        ((2.0, 0.7, 0.1), (2.0, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    ),
    # share of the side that is left
    "pixelate": ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
    # JPEG quality
    "jpeg_compression": ((25,), (18,), (15,), (10,), (7,)),
    # standard deviation as a share of the pixel
    "speckle_noise": ((0.15,), (0.2,), (0.35,), (0.45,), (0.6,)),
    # sigma
    "gaussian_blur": ((1.0,), (2.0,), (3.0,), (4.0,), (6.0,)),
    # mean and sigma of the noise, its smoothing, threshold, weight of the water or smoothing of the mud, 1 for mud
    "spatter": (
        (0.65, 0.3, 4.0, 0.69, 0.6, 0),
        (0.65, 0.3, 3.0, 0.68, 0.6, 0),
        (0.65, 0.3, 2.0, 0.68, 0.5, 0),
        (0.65, 0.3, 1.0, 0.65, 1.5, 1),
        (0.67, 0.4, 1.0, 0.65, 1.5, 1),
    ),
    # factor on HSV's saturation, and what is added to it
    "saturate": ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2)),
}

CIFAR: Table = {  # columns as above
    "gaussian_noise": ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
    "shot_noise": ((500.0,), (250.0,), (100.0,), (75.0,), (50.0,)),
    "impulse_noise": ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),
    "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    "snow": (
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    ),
    "frost": ((1.0, 0.2, 5), (1.0, 0.3, 5), (0.9, 0.4, 5), (0.85, 0.4, 5), (0.75, 0.45, 5)),
    "fog": ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),
    "brightness": ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
    "contrast": ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
    "elastic_transform": _scaled(
        _ELASTIC_CIFAR, ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
    ),
    "pixelate": ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
    "jpeg_compression": ((80,), (65,), (58,), (50,), (40,)),
    "speckle_noise": ((0.06,), (0.1,), (0.12,), (0.16,), (0.2,)),
    "gaussian_blur": ((0.4,), (0.6,), (0.7,), (0.8,), (1.0,)),
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1.0, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    "saturate": ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),
}

TABLES: Mapping[StrengthsName, Table] = {"imagenet": IMAGENET, "cifar": CIFAR}
