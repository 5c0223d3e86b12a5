"""What the recipe sections of single teachers have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dad_datasets.settings import Settings
from dad_pipeline.teachers.resize import ResizeFilter

RANDOM = "random"  # in place of a checkpoint: weights drawn from a seed

Rgb = tuple[float, float, float]
Positive = Annotated[float, Field(gt=0)]


class InputSettings(Settings):
    """What overrides the preprocessing that comes with the model."""

    image_size: int | None = Field(None, gt=0, description="Side in pixels to which the network's input is resized.")
    mean: Rgb | None = Field(None, description="Mean of each channel that is subtracted, in [0,1].")
    std: tuple[Positive, Positive, Positive] | None = Field(
        None, description="Standard deviation of each channel to divide by, in [0,1]."
    )
    interpolation: ResizeFilter | None = Field(None, description="Filter of the resize.")


def check_seed(seed: int | None, *, is_random: bool, field: str) -> None:
    """ValueError, for pydantic, unless a seed is given exactly where the weights are random."""
    if is_random != (seed is not None):
        raise ValueError(f"seed: goes with {field}: {RANDOM}, and only with it; give both or neither")
