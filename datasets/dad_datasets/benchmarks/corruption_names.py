"""The common corruptions by name, as the published sets name their folders and files, and AlexNet's errors on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

CommonName = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
]
ExtraName = Literal["speckle_noise", "gaussian_blur", "spatter", "saturate"]
CorruptionName = Literal[CommonName, ExtraName]

COMMON_NAMES: tuple[CommonName, ...] = get_args(CommonName)
"""The 15 that count for the mean corruption error (Hendrycks & Dietterich, ICLR 2019)."""

EXTRA_NAMES: tuple[ExtraName, ...] = get_args(ExtraName)
"""The four held out for validation; reported, never counted beside common ones."""

ALL_NAMES: tuple[CorruptionName, ...] = (*COMMON_NAMES, *EXTRA_NAMES)
SEVERITIES = (1, 2, 3, 4, 5)

ALEXNET_ERRORS: Mapping[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's top-1 error on ImageNet-C, mean over the five severities: the denominators of the published mCE."""
