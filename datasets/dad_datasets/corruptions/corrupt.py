"""Any of the 19 corruptions on a batch of images, by name and severity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dad_datasets.benchmarks.corruption_names import CorruptionName
from dad_datasets.corruptions.blur import defocus_blur, gaussian_blur, zoom_blur
from dad_datasets.corruptions.digital import brightness, contrast, jpeg_compression, pixelate, saturate
from dad_datasets.corruptions.elastic import elastic_transform
from dad_datasets.corruptions.fog import fog
from dad_datasets.corruptions.frost import frost
from dad_datasets.corruptions.glass import glass_blur
from dad_datasets.corruptions.motion import motion_blur
from dad_datasets.corruptions.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from dad_datasets.corruptions.snow import snow
from dad_datasets.corruptions.spatter import spatter
from dad_datasets.corruptions.strengths import COMMON, EXTRA, NUM_SEVERITIES, TABLES, StrengthsName
from dad_datasets.errors import UserError
from dad_datasets.seeding import generator_for

FIXED: Mapping[CorruptionName, Callable[..., Tensor]] = {
    "defocus_blur": defocus_blur,
    "zoom_blur": zoom_blur,
    "brightness": brightness,
    "contrast": contrast,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "gaussian_blur": gaussian_blur,
    "saturate": saturate,
}
RANDOM: Mapping[CorruptionName, Callable[..., Tensor]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "elastic_transform": elastic_transform,
    "speckle_noise": speckle_noise,
    "spatter": spatter,
}

_ROUNDING = 2**-10
"""In levels: float32 may end just below a whole number that exact arithmetic reaches, and is cut down from there."""


def corrupt(
    images: UInt8[Tensor, "n 3 h w"],
    name: CorruptionName,
    severity: int,
    *,
    strengths: StrengthsName,
    seed: int,
    keys: Sequence[str],
) -> UInt8[Tensor, "n 3 h w"]:
    """The images under corruption `name` at `severity` 1 ... 5, on their own device.

    Image i's randomness is a function of (seed, name, severity, keys[i]) alone: neither the batch nor the order changes
    it (on a GPU, sums in another order may move a pixel by one level). `strengths` "imagenet" fits images near 224 px,
    "cifar" near 32 px; any height and width are taken. Fractions of a level are cut off, not rounded, as in the
    published code. Departures from the published images: frost's textures are our own (see `frost_texture`), and
    ImageNet-C's files were saved as JPEG of quality 85 afterwards.

    Raises UserError for an unknown corruption, table or severity, for a wrong number of keys, and for images that are
    not uint8 [n, 3, h, w].
    """
    if name not in COMMON + EXTRA:
        raise UserError(f"corruption {name!r} is unknown; there are {', '.join(COMMON + EXTRA)}")
    if strengths not in TABLES:
        raise UserError(f"strengths {strengths!r} are unknown; there are {' and '.join(TABLES)}")
    if severity not in range(1, NUM_SEVERITIES + 1):
        raise UserError(f"severity {severity!r} of {name} is not one of 1 ... {NUM_SEVERITIES}")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise UserError(f"images to corrupt are {images.dtype} {list(images.shape)}; uint8 [n, 3, h, w] is expected")
    if len(keys) != len(images):
        raise UserError(f"keys: {len(keys)} were given for {len(images)} images; each image needs one")
    if len(images) == 0:
        return images.clone()
    strength = TABLES[strengths][name][severity - 1]
    pixels = images.float() / 255
    if name in FIXED:
        return _cut(FIXED[name](pixels, *strength))
    generators = [generator_for(seed, name, severity, key) for key in keys]
    return _cut(RANDOM[name](pixels, generators, *strength))


def _cut(pixels: Float[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w"]:
    return pixels.clamp(0, 1).mul_(255).add_(_ROUNDING).to(torch.uint8)
