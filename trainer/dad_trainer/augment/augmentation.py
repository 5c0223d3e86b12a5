"""Augmentation of one sample: everything that the recipe asks for, alike for the clean and the adversarial image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from dad_datasets.seeding import generator_for
from dad_datasets.views import Canvas, PadCropView, RandomResizedCropView
from dad_trainer.augment.aug_mix import aug_mix
from dad_trainer.augment.erasing import erase_alike
from dad_trainer.augment.geometry import crop_alike, flip_alike
from dad_trainer.augment.global_generators import transform_alike
from dad_trainer.augment.rand_augment import rand_augment
from dad_trainer.augment.settings import AugmentSettings

Stage = Callable[[Sequence[Canvas], np.random.Generator], list[Canvas]]


class Augmentation:
    """What a sample's images look like in an epoch: a function of (seed, epoch, key, view) and the pixels alone.

    `mean` and `std`, per channel in [0, 1], are those by which the student normalises: they colour what moves in from
    beyond a border and what is erased.
    """

    def __init__(
        self,
        settings: AugmentSettings,
        seed: int,
        *,
        mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
        std: Sequence[float] = IMAGENET_DEFAULT_STD,
    ) -> None:
        self._seed = seed
        self._stages = _stages(settings, mean, std)

    def __call__(self, images: Sequence[Canvas], *, epoch: int, key: str, view: int) -> list[Canvas]:
        """Each image, by the same draws: [x, x'] gives for x what [x] gives. The images given are left as they are.

        Equal draws are not always equal changes: AutoContrast and Equalize look at the image.
        """
        assert len({image.shape for image in images}) == 1, "the images of a sample have one size"
        augmented = list(images)
        for purpose, stage in self._stages.items():
            # A generator for each purpose: switching one augmentation on leaves the draws of the others as they were.
            augmented = stage(augmented, generator_for(self._seed, epoch, key, view, purpose))
        return augmented


def _stages(settings: AugmentSettings, mean: Sequence[float], std: Sequence[float]) -> dict[str, Stage]:
    """What `settings` asks for by its purpose, in the order in which it acts."""
    red, green, blue = (round(255 * value) for value in mean)
    fill = (red, green, blue)
    stages: dict[str, Stage] = {}
    if (crop := settings.resized_crop) is not None:
        drawn = RandomResizedCropView(scale=crop.scale, ratio=crop.ratio, flip_probability=0)
        stages["resized_crop"] = partial(crop_alike, crop=drawn, interpolation=crop.interpolation)
    if settings.crop_padding:
        stages["padded_crop"] = partial(crop_alike, crop=PadCropView(padding=settings.crop_padding, flip_probability=0))
    if settings.flip:
        stages["flip"] = partial(flip_alike, probability=settings.flip)
    if settings.rand_augment is not None:
        transform = rand_augment(settings.rand_augment, settings.rand_augment_operations, fill=fill)
        stages["rand_augment"] = partial(transform_alike, transform=transform)
    if (mix := settings.aug_mix) is not None:
        transform = aug_mix(
            severity=mix.severity,
            width=mix.width,
            depth=mix.depth,
            alpha=mix.alpha,
            operations=mix.operations,
            fill=fill,
        )
        stages["aug_mix"] = partial(transform_alike, transform=transform)
    if settings.erasing:
        stages["erasing"] = partial(
            erase_alike, probability=settings.erasing, mode=settings.erasing_mode, mean=mean, std=std
        )
    return stages
