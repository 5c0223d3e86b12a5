"""The recipe of `dad label`: which teacher, and what is kept of its logits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dad_datasets.settings import Settings
from dad_datasets.sources import SourceSettings
from dad_pipeline.recipe import CheckSettings, ComputeSettings, TopKLogits
from dad_pipeline.teachers.settings import TeacherSettings


class LabelRecipe(Settings):
    """A labelling run over a finished set of images."""

    teacher: TeacherSettings
    class_names: Literal["imagenet"] | tuple[str, ...] | None = Field(
        None, description="Class names for the teacher's prompts, in the order of the labels; the set's own by default."
    )
    source: SourceSettings | None = Field(
        None, description="Where the clean images are; by default in the shards, or where they were generated from."
    )
    logits: Literal["full"] | TopKLogits = Field("full", description="All of the teacher's logits, or the k largest.")
    compute: ComputeSettings = ComputeSettings()
    check: CheckSettings = CheckSettings()
