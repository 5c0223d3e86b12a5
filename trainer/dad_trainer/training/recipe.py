"""The recipe of a training run: the YAML that describes it completely."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from dad_datasets.settings import Settings
from dad_datasets.sources import SourceSettings
from dad_trainer.augment import AugmentSettings
from dad_trainer.losses import LossName, LossSettings
from dad_trainer.optimisation import OptimiserSettings, ScheduleSettings
from dad_trainer.students import StudentSettings
from dad_trainer.training.streams import ImagesName

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["float32", "bfloat16", "float16"]

IMAGES_OF_LOSS: dict[LossName, ImagesName] = {
    "ce": "clean",
    "kd": "clean",
    "dad": "pairs",
    "dad_concat": "unpaired",
}


class ShardSetSettings(Settings):
    """One set of shards made by `dad generate`."""

    path: str = Field(min_length=1, description="Folder of the set, as a local path or an fsspec URL.")
    clean: SourceSettings | None = Field(
        None, description="Where the clean images are; by default in the shards, or where they were generated from."
    )
    where: str | None = Field(None, description="Which records to keep: an expression over the index's columns.")
    teacher: str | None = Field(
        None, description="Name of labels made by `dad label`, taken in place of the set's own logits."
    )
    weight: float = Field(1.0, gt=0, le=1000, description="Visits to each clean image in an epoch.")
    views: int = Field(1, ge=1, le=1000, description="Stored views taken at a visit, each image's own in turn.")
    max_missing: float = Field(0.0, ge=0, le=1, description="Share of clean images that may be missing.")


class ValidationSettings(Settings):
    """Labelled clean images on which the student is scored while it learns."""

    source: SourceSettings
    fraction: float = Field(1.0, gt=0, le=1, description="Side of the centre crop as a share of the shorter side.")
    limit: int | None = Field(None, ge=1, description="Number of images used, the first ones; all if not given.")
    every_epochs: int = Field(1, ge=1, description="How often, in epochs; the last epoch always.")


class EmaSettings(Settings):
    """An exponential moving average of the weights, scored and saved beside them."""

    decay: float = Field(0.9999, gt=0, lt=1, description="Share of the average that is kept at each step.")
    warmup: bool = Field(True, description="Begin with a smaller decay, so that the first weights are soon forgotten.")


class ComputeSettings(Settings):
    """Where and in which arithmetic the student is trained."""

    device: DeviceName = Field("auto", description="auto: a GPU where there is one.")
    precision: PrecisionName = Field("float32", description="bfloat16, float16: autocast, weights stay float32.")
    channels_last: bool = Field(True, description="Memory layout of images and weights.")
    compile: bool = Field(False, description="torch.compile the student.")
    accumulate: int = Field(1, ge=1, description="Forward passes of a process that make up one optimiser step.")
    threads: int | None = Field(None, ge=1, le=1024, description="torch threads of a process; torch's choice if null.")
    workers: int = Field(2, ge=0, le=1024, description="Processes that load data; 0: the training process itself.")
    cache: str | None = Field(None, description="Folder for shards fetched from remote sets.")
    cache_gb: float = Field(50.0, gt=0, le=1e6, description="Bound of that folder in 10^9 bytes.")
    block_shards: int | None = Field(
        None,
        ge=1,
        description="Shuffle so many shards at a time; null: 16 with remote sets, all records with local ones.",
    )


class SavingSettings(Settings):
    """When checkpoints are written, and what is written besides."""

    every_steps: int | None = Field(None, ge=1, description="Checkpoint `last` within epochs too, each so many steps.")
    every_epochs: int | None = Field(None, ge=1, description="Keep a checkpoint of each so many epochs for good.")
    log_every_steps: int = Field(20, ge=1, description="Steps between points in TensorBoard.")
    wandb_project: str | None = Field(None, description="Weights & Biases project to log to, too.")


class TrainingRecipe(Settings):
    """A training run."""

    shards: tuple[ShardSetSettings, ...] = Field(
        min_length=1, description="The sets of shards, mixed by their weights."
    )
    student: StudentSettings
    loss: LossSettings = LossSettings()
    images: ImagesName | None = Field(
        None,
        description="What the student sees; by default clean for ce and kd, pairs for dad, unpaired for dad_concat.",
    )
    augment: AugmentSettings = AugmentSettings()
    batch_size: int = Field(256, ge=1, description="Images through the student in one step, over all processes.")
    epochs: float | None = Field(None, gt=0, description="Length of the run in passes over the data; or give steps.")
    steps: int | None = Field(None, ge=1, description="Length of the run in optimiser steps; or give epochs.")
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    clip_norm: float | None = Field(None, gt=0, description="Bound of the gradient's L2 norm.")
    ema: EmaSettings | None = None
    validation: ValidationSettings | None = None
    teacher: dict[str, Any] | None = Field(
        None, description="A live teacher in place of the stored logits: the `teacher` section of a generation recipe."
    )
    compute: ComputeSettings = ComputeSettings()
    saving: SavingSettings = SavingSettings()
    seed: int = Field(0, ge=0, description="Seed of the weights and of every draw.")

    @model_validator(mode="after")
    def _consistent(self) -> TrainingRecipe:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        shown = self.images or IMAGES_OF_LOSS[self.loss.name]
        if (self.loss.name == "dad") != (shown == "pairs"):
            raise ValueError(f"loss {self.loss.name} cannot be trained on images: {shown}")
        if self.teacher is not None and not self.needs_teacher:
            raise ValueError("teacher: loss ce asks no teacher")
        if self.batch_size % self.images_per_sample:
            raise ValueError(f"batch_size = {self.batch_size}: pairs need an even number of images")
        return self

    @property
    def shown(self) -> ImagesName:
        """What the student sees."""
        return self.images or IMAGES_OF_LOSS[self.loss.name]

    @property
    def images_per_sample(self) -> int:
        return 2 if self.shown == "pairs" else 1

    def images_per_pass(self, processes: int) -> int:
        """Images that go through the student at once in each of so many processes."""
        return self.batch_size // (processes * self.compute.accumulate)

    @property
    def needs_teacher(self) -> bool:
        return self.loss.name != "ce"

    @property
    def uses_stored_logits(self) -> bool:
        return self.needs_teacher and self.teacher is None
