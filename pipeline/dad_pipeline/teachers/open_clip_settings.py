"""The teacher section of a recipe for open_clip models."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from dad_pipeline.teachers.input_settings import RANDOM, InputSettings, check_seed
from dad_pipeline.teachers.prompts import class_names, prompt_templates

OWN_CONFIG_PREFIXES = ("local-dir:", "hf-hub:")


class OpenClipSettings(InputSettings):
    """Where an open_clip model comes from."""

    architecture: str | None = Field(
        None,
        description="A built-in open_clip name, or a JSON model config file; left out where `pretrained` is a "
        "local-dir: or hf-hub:, which hold their own. OpenAI's own weights need the names that end in -quickgelu.",
    )
    pretrained: str | None = Field(
        None,
        description="A checkpoint file, local-dir:PATH, hf-hub:NAME, or a published tag of the architecture; `random` "
        "loads nothing and draws the weights from `seed`: for runs about shapes, memory and speed only.",
    )
    seed: int | None = Field(None, ge=0, description="Seed of the weights, with `pretrained: random` alone.")

    @model_validator(mode="after")
    def _check_origin(self) -> Self:
        own_config = self.pretrained is not None and self.pretrained.startswith(OWN_CONFIG_PREFIXES)
        if own_config and self.architecture is not None:
            raise ValueError(
                f"architecture = {self.architecture!r}: leave it out, {self.pretrained} holds its own config"
            )
        if not own_config and self.architecture is None:
            raise ValueError("architecture: is required unless pretrained is a local-dir: or hf-hub:")
        check_seed(self.seed, is_random=self.pretrained == RANDOM, field="pretrained")
        return self


class OpenClipZeroShotSettings(OpenClipSettings):
    """A vision-language model that classifies by the similarity of an image to prompts."""

    kind: Literal["open_clip_zero_shot"]
    templates: str | tuple[str, ...] = Field(
        "openai_imagenet",
        description="Prompts: `openai_imagenet` (80), `simple` (7), or a list of texts with {} for the class name.",
    )
    class_names: str | tuple[str, ...] | None = Field(
        None,
        description="Names put into the prompts: `imagenet`, or a list in label order; the dataset's own by default.",
    )

    @model_validator(mode="after")
    def _check_pretrained(self) -> Self:
        if self.pretrained is None:
            raise ValueError("pretrained: is required")
        return self

    @field_validator("templates", mode="before")
    @classmethod
    def _check_templates(cls, value: object) -> object:
        texts = _text_or_list(value)
        prompt_templates(texts)
        return texts

    @field_validator("class_names", mode="before")
    @classmethod
    def _check_class_names(cls, value: object) -> object:
        if value is None:
            return None
        texts = _text_or_list(value)
        class_names(texts)
        return texts


class OpenClipLinearSettings(OpenClipSettings):
    """The visual half of an open_clip model under a linear classifier, frozen or fine-tuned as a whole."""

    kind: Literal["open_clip_linear"]
    head: Path | None = Field(
        None, description="File with `weight` [classes, features] and, optionally, `bias`; goes with `pretrained`."
    )
    checkpoint: Path | None = Field(
        None,
        description="File of a fine-tuned classifier, `visual.*` and `head.*`; instead of `pretrained` and `head`.",
    )
    normalize_features: bool = Field(True, description="Whether features are scaled to unit length before the head.")
    logit_scale: float = Field(
        1.0, gt=0, description="Factor on normalised or raw features: 100 for a head of unit-length zero-shot weights."
    )

    @model_validator(mode="after")
    def _check_head(self) -> Self:
        given = {name for name in ("pretrained", "head", "checkpoint") if getattr(self, name) is not None}
        if self.pretrained == RANDOM:
            allowed = given == {"pretrained"}
        else:
            allowed = given in ({"checkpoint"}, {"pretrained", "head"})
        if not allowed:
            raise ValueError("give either pretrained and head, or checkpoint, or pretrained: random with a seed")
        return self


def _text_or_list(value: object) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ValueError("a name or a list of texts was expected")
