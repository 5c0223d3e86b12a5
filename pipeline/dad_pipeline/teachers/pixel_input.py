"""What stands between the canvas and a network: its resize and its normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dad_datasets.errors import UserError
from dad_pipeline.teachers.input_settings import InputSettings
from dad_pipeline.teachers.resize import ResizeFilter, resize


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a network wants its pixels, and where each part of that was read: a wrong guess costs accuracy silently."""

    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: ResizeFilter
    origin: str
    from_recipe: tuple[str, ...] = ()

    def __str__(self) -> str:
        height, width = self.image_size
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        recipe = f"; from the recipe: {', '.join(self.from_recipe)}" if self.from_recipe else ""
        return (
            f"resize to {height}x{width} {self.interpolation}, mean ({mean}), std ({std}), from {self.origin}{recipe}"
        )


def read_preprocessing(config: Mapping[str, Any], settings: InputSettings, *, origin: str) -> Preprocessing:
    """A library's configuration (`size`, `mean`, `std`, `interpolation`), overridden by what the recipe says.

    Only the plain resize is taken over, not the crop that the library puts after it: the canvas is cropped already.
    Raises UserError where the configuration asks for a filter that `resize` has not, and the recipe names no other.
    """
    interpolation = settings.interpolation or config["interpolation"]
    if interpolation not in get_args(ResizeFilter):
        allowed = " or ".join(get_args(ResizeFilter))
        raise UserError(
            f"teacher: the model resizes with {interpolation!r}; set interpolation to {allowed} in the recipe"
        )
    size = settings.image_size or config["size"]
    found = Preprocessing(
        image_size=(size, size) if isinstance(size, int) else (int(size[0]), int(size[1])),
        mean=tuple(settings.mean or config["mean"]),
        std=tuple(settings.std or config["std"]),
        interpolation=interpolation,
        origin=origin,
    )
    return replace(found, from_recipe=tuple(name for name in InputSettings.model_fields if getattr(settings, name)))


class PixelInput(nn.Module):
    """Pixels in [0,1] of any size to the network's input. Mean and std are in the state dict, and so in its hash."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.image_size = preprocessing.image_size
        self.interpolation = preprocessing.interpolation
        self.register_buffer("mean", _per_channel(preprocessing.mean))
        self.register_buffer("std", _per_channel(preprocessing.std))

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        return (resize(pixels, self.image_size, self.interpolation) - self.mean) / self.std


def _per_channel(values: Sequence[float]) -> Float[Tensor, "1 3 1 1"]:
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)
