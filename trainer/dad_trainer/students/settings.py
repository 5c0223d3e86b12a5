"""The recipe section `student`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from dad_datasets.settings import Settings

Scalar = bool | int | float | str
Rgb = tuple[float, float, float]
Positive = Annotated[float, Field(gt=0)]

RESERVED = ("num_classes", "img_size", "in_chans", "drop_rate", "drop_path_rate", "pretrained", "checkpoint_path")


class StudentSettings(Settings):
    """Any timm classifier, or one of our ResNets for small images (cifar_resnet18, cifar_resnet20, cifar_resnet56)."""

    architecture: str = Field(description="A timm model name; one with a tag also has that tag's mean and std.")
    checkpoint: str | None = Field(None, description="Weights file to start from; random weights if not given.")
    reset_head: bool = Field(False, description="Start with a new classifier in place of the checkpoint's.")
    image_size: int | None = Field(
        None,
        gt=0,
        le=8192,
        description="Side in pixels of the network's input; its own, or the canvas's, if null.",
    )
    mean: Rgb | None = Field(None, description="Mean of each channel that is subtracted, in [0,1]; timm's if null.")
    std: tuple[Positive, Positive, Positive] | None = Field(
        None, description="Standard deviation of each channel to divide by, in [0,1]; timm's if null."
    )
    drop_rate: float | None = Field(None, ge=0, lt=1, description="Dropout before the classifier; timm's if null.")
    drop_path_rate: float | None = Field(None, ge=0, lt=1, description="Stochastic depth's rate; timm's if null.")
    options: dict[str, Scalar] = Field(
        default_factory=dict, description="Further arguments of the model's constructor, such as norm: group."
    )

    @field_validator("options")
    @classmethod
    def _leaves_the_rest_alone(cls, value: dict[str, Scalar]) -> dict[str, Scalar]:
        taken = sorted(set(RESERVED) & set(value))
        if taken:
            raise ValueError(f"{taken[0]} is set by other fields or by the shards; leave it out")
        return value
