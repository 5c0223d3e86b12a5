"""The recipe of `dad train-quantizer`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from dad_datasets.settings import Settings
from dad_datasets.sources import SourceSettings
from dad_pipeline.quantizer import QuantizerArchitecture
from dad_pipeline.teachers import TeacherSettings


class LossSettings(Settings):
    """Weights of the terms, on pixels in [0, 1]."""

    l1: float = Field(1.0, ge=0, description="Weight of the mean absolute error of the pixels.")
    l2: float = Field(1.0, ge=0, description="Weight of the mean squared error of the pixels.")
    codebook: float = Field(1.0, gt=0, description="Weight of the pull of the codebook vectors to the latents.")
    commitment: float = Field(0.25, ge=0, description="Weight of the pull of the latents to their codebook vectors.")
    feature: float = Field(0.0, ge=0, description="Weight of the teacher's distance between image and reconstruction.")
    feature_layers: tuple[str, ...] = Field(
        (), description="The teacher's modules whose outputs are compared (network.1.layer1); none: its logits, by KL."
    )


class CodebookSettings(Settings):
    """How the codebook is started and kept in use."""

    continuous_steps: int = Field(
        0, ge=0, description="First steps without quantisation; then the codebook is drawn from the latents."
    )
    restart_every: PositiveInt = Field(50, description="Steps between two restarts of dead codes.")
    restart_until: float = Field(0.7, ge=0, le=1, description="Share of the steps after which none is restarted.")
    dead_below: float = Field(
        0.03, ge=0, lt=1, description="A code is dead below this share of the mean use since the last restart."
    )


class DiscriminatorSettings(Settings):
    """A PatchGAN that joins in late, as in taming."""

    weight: float = Field(0.5, gt=0, description="Weight of its verdict, on top of the balance of the gradients.")
    start_step: int = Field(..., ge=0, description="Step at which it joins.")
    channels: PositiveInt = Field(64, description="Channels of its first layer.")
    num_layers: PositiveInt = Field(2, description="Number of its strided layers.")
    learning_rate: float = Field(2e-4, gt=0, description="Its constant learning rate.")


class OptimiserSettings(Settings):
    """AdamW with a linear warm-up and a cosine to zero."""

    steps: PositiveInt = Field(..., description="Number of optimiser steps.")
    batch_size: PositiveInt = Field(64, description="Images per step.")
    learning_rate: float = Field(1e-3, gt=0, description="Largest learning rate.")
    warmup_steps: int = Field(100, ge=0, description="Steps of the warm-up.")
    betas: tuple[float, float] = Field((0.9, 0.99), description="Decay of Adam's two averages.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    clip_norm: float = Field(1.0, gt=0, description="Largest norm of the gradient.")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Decay of the averaged weights that are exported; none: the last ones are."
    )


class QuantizerRecipe(Settings):
    """Everything that decides what `dad train-quantizer` makes."""

    source: SourceSettings = Field(..., description="The images; only the training ones, if they are to be used later.")
    network: QuantizerArchitecture = Field(..., description="The network; images are resized to its resolution.")
    optimiser: OptimiserSettings = Field(..., description="Steps, batch and learning rate.")
    losses: LossSettings = Field(LossSettings(), description="Weights of the loss.")
    codebook: CodebookSettings = Field(CodebookSettings(), description="Start and restarts of the codebook.")
    discriminator: DiscriminatorSettings | None = Field(None, description="An adversarial loss.")
    teacher: TeacherSettings | None = Field(None, description="Judges the round trip, and its features if weighted.")
    precision: Literal["float32", "bfloat16"] = Field("bfloat16", description="Of the network's products in training.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one.")
    threads: PositiveInt = Field(2, description="Threads of a CPU run; they can change last bits.")
    seed: int = Field(0, ge=0, description="Seed of everything that is drawn.")
    crop_padding: int = Field(
        0, ge=0, le=1024, description="Black border in pixels in which the training crop moves; as the views' pad_crop."
    )
    max_images: PositiveInt | None = Field(None, description="Images taken from the start of the source; none: all.")
    validation_images: PositiveInt = Field(500, description="Images held back for the figures.")
    checkpoint_every: PositiveInt = Field(500, description="Steps between two checkpoints.")

    @field_validator("network")
    @classmethod
    def _has_a_codebook(cls, network: QuantizerArchitecture) -> QuantizerArchitecture:
        if network.kind != "vq":
            raise ValueError("kind must be vq, gumbel quantizers can be loaded but not trained")
        factor = 2 ** (len(network.ch_mult) - 1)
        if network.resolution % factor:
            raise ValueError(f"resolution = {network.resolution} must be divisible by {factor}")
        return network

    @model_validator(mode="after")
    def _features_need_a_teacher(self) -> Self:
        if self.losses.feature and self.teacher is None:
            raise ValueError("losses.feature: needs a teacher section")
        return self
