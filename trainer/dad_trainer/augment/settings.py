"""The recipe section `augment`: what is drawn anew in every epoch, on top of the stored views."""

from __future__ import annotations

import re
from typing import Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from dad_datasets.settings import Settings
from dad_datasets.views import ResizeName
from dad_trainer.augment.operations import PUBLISHED_OPERATIONS, TIMM_OPERATIONS, OperationName

ErasingMode = Literal["const", "pixel"]

# timm takes anything here: it passes over words without a number, and reads an unknown -t... as the default set.
_SECTION = re.compile(r"m\d+|n([1-9]|10)|p(0(\.\d+)?|1(\.0+)?)|mstd\d+(\.\d+)?|mmax[1-9]\d*|inc[01]|t(weights|3a|3aw)")


class ResizedCropSettings(Settings):
    """A random part of the canvas, resized to the whole of it."""

    scale: tuple[float, float] = Field((0.08, 1.0), description="Range of the share of the canvas's area.")
    ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="Range of width over height.")
    interpolation: ResizeName = Field("bicubic", description="Pillow's filter for the resize.")

    @field_validator("scale", "ratio")
    @classmethod
    def _is_a_range(cls, value: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected [low, high] with 0 < low <= high")
        if info.field_name == "scale" and value[1] > 1:
            raise ValueError("expected shares of at most 1")
        return value


class AugMixSettings(Settings):
    """AugMix (Hendrycks et al., ICLR 2020): chains of operations, mixed with each other and with the image itself."""

    severity: float = Field(
        3.0, gt=0, le=10, description="Each operation's magnitude is uniform between 0 and this, of timm's 10."
    )
    width: int = Field(3, ge=1, le=10, description="Number of chains.")
    depth: int | None = Field(None, ge=1, le=10, description="Operations in a chain; null: 1, 2 or 3 at random.")
    alpha: float = Field(1.0, gt=0, description="Parameter of the Dirichlet and Beta laws of the mixing weights.")
    operations: tuple[OperationName, ...] = Field(
        PUBLISHED_OPERATIONS,
        min_length=1,
        description="published (the paper's nine), timm (thirteen), or names.",
    )

    @field_validator("operations", mode="before")
    @classmethod
    def _name_the_sets(cls, given: object) -> object:
        """A set's name as its operations, so that a dumped recipe holds what ran."""
        if not isinstance(given, str):
            return given
        sets = {"published": PUBLISHED_OPERATIONS, "timm": TIMM_OPERATIONS}
        if given not in sets:
            names = ", ".join(get_args(OperationName))
            raise ValueError(f"expected published, timm, or a list of these names: {names}")
        return sets[given]


class AugmentSettings(Settings):
    """Off unless asked for: the stored views are random crops already, and the stored logits are exact for them alone.

    In the order in which they act: resized_crop, crop_padding, flip, rand_augment, aug_mix, erasing, then mixing.
    """

    resized_crop: ResizedCropSettings | None = Field(
        None, description="Inception's crop of the canvas, as timm draws it."
    )
    crop_padding: int = Field(
        0, ge=0, le=1024, description="Black border in pixels in which the crop moves, as on CIFAR; 0: off."
    )
    flip: float = Field(0.0, ge=0, le=1, description="Probability of mirroring left and right.")
    rand_augment: str | None = Field(None, description="timm's RandAugment, such as rand-m9-mstd0.5-inc1.")
    rand_augment_operations: tuple[OperationName, ...] | None = Field(
        None, min_length=1, description="Operations for RandAugment; null: those that its own -inc and -t choose."
    )
    aug_mix: AugMixSettings | None = Field(None, description="AugMix.")
    erasing: float = Field(0.0, ge=0, le=1, description="Probability of erasing a random box.")
    erasing_mode: ErasingMode = Field("pixel", description="What fills the box: the mean colour, or noise per pixel.")
    mixup: float = Field(0.0, ge=0, description="Parameter of mixup's Beta law; 0: off.")
    cutmix: float = Field(0.0, ge=0, description="Parameter of cutmix's Beta law; 0: off.")
    mixing_probability: float = Field(1.0, ge=0, le=1, description="Probability that a couple of images is mixed.")
    switch_probability: float = Field(0.5, ge=0, le=1, description="Probability of cutmix where mixup is on too.")

    @field_validator("rand_augment")
    @classmethod
    def _is_a_timm_config(cls, value: str | None) -> str | None:
        if value is None:
            return None
        first, *sections = value.split("-")
        if first != "rand":
            raise ValueError("expected timm's RandAugment, which begins with rand, such as rand-m9-mstd0.5-inc1")
        for section in sections:
            if not _SECTION.fullmatch(section):
                raise ValueError(
                    f"-{section} is none of -m<integer>, -n<1 to 10>, -p<0 to 1>, -mstd<number>, -mmax<integer>, "
                    "-inc<0 or 1>, -tweights, -t3a, -t3aw"
                )
        return value

    @field_validator("rand_augment_operations")
    @classmethod
    def _operations_have_a_use(
        cls, value: tuple[OperationName, ...] | None, info: ValidationInfo
    ) -> tuple[OperationName, ...] | None:
        if value is None or "rand_augment" not in info.data:  # refused already
            return value
        config = info.data["rand_augment"]
        if config is None:
            raise ValueError("needs rand_augment, such as rand-m9-mstd0.5")
        if "-t" in config:
            raise ValueError(f"rand_augment {config} chooses operations with -t; give only one of the two")
        return value
