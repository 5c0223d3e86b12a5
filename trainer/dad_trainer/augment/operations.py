"""The operations that RandAugment and AugMix choose from, and the sets of them that have a name."""

from __future__ import annotations

from typing import Literal

OperationName = Literal[
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "PosterizeIncreasing",
    "PosterizeOriginal",
    "Solarize",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "Color",
    "ColorIncreasing",
    "Contrast",
    "ContrastIncreasing",
    "Brightness",
    "BrightnessIncreasing",
    "Sharpness",
    "SharpnessIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
    "Desaturate",
    "GaussianBlur",
    "GaussianBlurRand",
]
"""timm's operations, by timm's names; not its two that move by pixels made for one image size."""

PUBLISHED_OPERATIONS: tuple[OperationName, ...] = (
    "AutoContrast",
    "Equalize",
    "PosterizeIncreasing",
    "Rotate",
    "SolarizeIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)
"""AugMix's own nine (Hendrycks et al., ICLR 2020), chosen so that none is a corruption of ImageNet-C."""

TIMM_OPERATIONS: tuple[OperationName, ...] = (
    *PUBLISHED_OPERATIONS,
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
)
"""timm's AugMix: four more, which give away the answer to a test under those corruptions."""
