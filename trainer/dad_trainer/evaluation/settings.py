"""The evaluation recipe: which benchmarks, and how they are run."""

from __future__ import annotations

from pydantic import Field, field_validator

from dad_datasets.benchmarks import BenchmarkSettings
from dad_datasets.settings import Settings
from dad_trainer.evaluation.inference import DeviceName, PrecisionName


class RunSettings(Settings):
    """How benchmarks are run. Only `precision` changes more than the last bits of a result."""

    batch_size: int = Field(250, ge=1, le=65536, description="Images in one forward pass.")
    precision: PrecisionName = Field("float32", description="bfloat16 runs the student in autocast.")
    device: DeviceName = Field("auto", description="auto: a GPU where there is one.")
    threads: int | None = Field(None, ge=1, le=1024, description="torch threads; torch's choice if null.")
    decode_threads: int = Field(4, ge=1, le=256, description="Threads that read and decode images.")
    chunk_mib: int = Field(
        1024,
        ge=1,
        description="MiB of decoded images held at once for corruptions.",
    )
    max_bad_images: float = Field(
        0.0, ge=0, le=1, description="Share of a benchmark's images that may be unreadable; they are left out."
    )


class EvaluationRecipe(Settings):
    """A whole recipe of `dad evaluate`."""

    benchmarks: tuple[BenchmarkSettings, ...] = Field(description="The benchmarks, in the table's order.")
    run: RunSettings = Field(default_factory=RunSettings, description="How they are run.")

    @field_validator("benchmarks")
    @classmethod
    def _are_told_apart(cls, value: tuple[BenchmarkSettings, ...]) -> tuple[BenchmarkSettings, ...]:
        if not value:
            raise ValueError("expected at least one benchmark")
        names = [benchmark.name for benchmark in value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two benchmarks are named {twice[0]}; names must differ")
        return value
