"""The teacher section of a recipe: one model for each `kind`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dad_datasets.settings import Settings
from dad_pipeline.teachers.input_settings import RANDOM, InputSettings, Positive, check_seed
from dad_pipeline.teachers.open_clip_settings import OpenClipLinearSettings, OpenClipZeroShotSettings

Scalar = bool | int | float | str


class TimmSettings(InputSettings):
    """Any timm classifier with a checkpoint file."""

    kind: Literal["timm"]
    architecture: str = Field(description="A timm model name.")
    checkpoint: str = Field(
        description="Checkpoint file; `random` loads nothing and draws the weights from `seed`: for runs about shapes, "
        "memory and speed only."
    )
    seed: int | None = Field(None, ge=0, description="Seed of the weights, with `checkpoint: random` alone.")
    model_kwargs: dict[str, Scalar | list[Scalar]] = Field(
        default_factory=dict, description="Further arguments of the model's constructor, such as drop_path_rate."
    )

    @model_validator(mode="after")
    def _check_origin(self) -> Self:
        check_seed(self.seed, is_random=self.checkpoint == RANDOM, field="checkpoint")
        reserved = sorted({"num_classes", "img_size", "pretrained", "checkpoint_path"} & set(self.model_kwargs))
        if reserved:
            raise ValueError(f"model_kwargs.{reserved[0]}: is set by the checkpoint and by image_size; leave it out")
        return self


SingleTeacherSettings = Annotated[
    OpenClipZeroShotSettings | OpenClipLinearSettings | TimmSettings, Field(discriminator="kind")
]


class EnsembleSettings(Settings):
    """Several teachers whose probabilities are averaged."""

    kind: Literal["ensemble"]
    members: tuple[SingleTeacherSettings, ...] = Field(min_length=1, description="The teachers.")
    weights: tuple[Positive, ...] | None = Field(
        None, description="Weight of each member, normalised to sum 1; equal by default."
    )

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.members):
            raise ValueError(f"weights: {len(self.weights)} given for {len(self.members)} members")
        return self


TeacherSettings = Annotated[
    OpenClipZeroShotSettings | OpenClipLinearSettings | TimmSettings | EnsembleSettings, Field(discriminator="kind")
]
