"""The `benchmarks` section of an evaluation recipe: what each kind of benchmark needs to be found and read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dad_datasets.benchmarks.corruption_names import (
    ALEXNET_ERRORS,
    ALL_NAMES,
    COMMON_NAMES,
    EXTRA_NAMES,
    SEVERITIES,
    CorruptionName,
)
from dad_datasets.settings import Settings
from dad_datasets.sources.settings import SourceKind, SourceSettings
from dad_datasets.views import ResizeName

Severity = Annotated[int, Field(ge=1, le=5)]
Error = Annotated[float, Field(gt=0, le=1)]
ClassReference = int | str
"""A class of the student: its name, or its index."""

ImageNetFolderKind = Literal[
    "imagenet_val", "imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch", "imagenet_stylized"
]


class _Benchmark(Settings):
    name: str = Field(min_length=1, max_length=60, description="What tables and charts call it; unique in the recipe.")
    path: str = Field(min_length=1, description="Folder, file, glob or brace range, as a local path or an fsspec URL.")
    max_images: int | None = Field(
        None, ge=1, description="Only the first images of each condition: of folders a fair draw, otherwise in order."
    )


class _Viewed(Settings):
    """What is fed is the centred square of the image, its shorter side first resized to canvas / fraction pixels."""

    fraction: float = Field(1.0, gt=0, le=1, description="Side of the centre crop as a share of the shorter side.")
    resize: ResizeName = Field("bicubic", description="Pillow's filter for the resize.")


class _FromSource(_Benchmark, _Viewed):
    layout: SourceKind = Field("auto", description="Layout of the images; `auto` tells it from the files.")
    image_column: str | None = Field(None, min_length=1, description="Parquet column of the images.")
    label_column: str | None = Field(None, min_length=1, description="Parquet column of the labels.")
    classes: dict[ClassReference, ClassReference] | None = Field(
        None, description="The student's class for each class of the source; by default label i is the student's i."
    )

    @property
    def source(self) -> SourceSettings:
        return SourceSettings(
            path=self.path, kind=self.layout, image_column=self.image_column, label_column=self.label_column
        )


class _Corruptions(Settings):
    corruptions: tuple[CorruptionName, ...] = Field(
        COMMON_NAMES, description="A list of names, or one word: common (the usual 15), extra (4 more), or all."
    )
    severities: tuple[Severity, ...] = Field(SEVERITIES, description="From 1 (mild) to 5 (strong).")

    @field_validator("corruptions", mode="before")
    @classmethod
    def _of_a_group(cls, given: object) -> object:
        """The names that one word stands for; a name alone is a list of one."""
        if not isinstance(given, str):
            return given
        groups = {"common": COMMON_NAMES, "extra": EXTRA_NAMES, "all": ALL_NAMES}
        return groups.get(given, (given,))

    @field_validator("corruptions", "severities")
    @classmethod
    def _named_once(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError("expected at least one, and each one once")
        return value

    @property
    def corruption_names(self) -> tuple[CorruptionName, ...]:
        """In the papers' order."""
        return tuple(name for name in ALL_NAMES if name in self.corruptions)


class _ReferredCorruptions(_Corruptions):
    reference_errors: dict[str, Error] | None = Field(
        None,
        description="A reference model's top-1 error on each corruption, mean over the severities, for a relative mCE.",
    )

    @model_validator(mode="after")
    def _references_cover_what_counts(self) -> _ReferredCorruptions:
        counted = set(self.corruption_names) & set(COMMON_NAMES) or set(self.corruption_names)
        if self.reference_errors is not None and set(self.reference_errors) != counted:
            wrong = sorted(counted ^ set(self.reference_errors))[0]
            raise ValueError(f"reference_errors must name the corruptions that count, and no others; see {wrong}")
        return self


class CleanBenchmark(_FromSource):
    """Any clean dataset, with labels as they are or mapped by `classes`."""

    kind: Literal["clean"] = "clean"


class CorruptedBenchmark(_FromSource, _ReferredCorruptions):
    """Any clean dataset under this package's own common corruptions, applied to the canvas."""

    kind: Literal["corrupted"] = "corrupted"
    strengths: Literal["auto", "imagenet", "cifar"] = Field(
        "auto", description="ImageNet-C's or CIFAR-10-C's parameters; auto: CIFAR's for canvases of up to 64 pixels."
    )
    seed: int = Field(0, ge=0, description="Seed of the corruptions' noise; each image draws its own.")


class FolderBenchmark(_Benchmark, _Viewed):
    """An out-of-distribution set as folders of images, each mapped to one of the student's classes."""

    kind: Literal["folder"] = "folder"
    classes: dict[ClassReference, ClassReference] = Field(
        description="The student's class (name or index) for each folder; folders may share one."
    )
    ignore_unmapped: bool = Field(False, description="Leave folders out that `classes` does not name.")
    mask: bool = Field(False, description="Let the student choose among the mapped classes only.")


class ImageNetFoldersBenchmark(_Benchmark, _Viewed):
    """ImageNet-1k's validation set or a variant of it: folders named by WordNet id, or 0 to 999 for V2."""

    kind: ImageNetFolderKind
    fraction: float = Field(0.875, gt=0, le=1, description="Side of the centre crop as a share of the shorter side.")


class ImageNetCBenchmark(_Benchmark, _Corruptions):
    """ImageNet-C: <corruption>/<severity>/<WordNet id>/*.JPEG of 224 pixels, fed without resize or crop."""

    kind: Literal["imagenet_c"] = "imagenet_c"
    rescale: bool = Field(False, description="Resize the images for students that do not take 224 pixels.")

    @property
    def reference_errors(self) -> dict[str, float] | None:
        """AlexNet's, which are means over all five severities of all common corruptions; otherwise None."""
        complete = set(self.severities) == set(SEVERITIES) and set(COMMON_NAMES) <= set(self.corruption_names)
        return dict(ALEXNET_ERRORS) if complete else None


class ObjectNetBenchmark(_Benchmark, _Viewed):
    """ObjectNet 1.0: images/ and mappings/ as published; the 113 classes that overlap with ImageNet's."""

    kind: Literal["objectnet"] = "objectnet"
    fraction: float = Field(0.875, gt=0, le=1, description="Side of the centre crop as a share of the shorter side.")


class Cifar10Benchmark(_FromSource):
    """The test set of CIFAR-10, as Parquet files of Hugging Face or in any layout of clean images."""

    kind: Literal["cifar10"] = "cifar10"


class Cifar10CBenchmark(_Benchmark, _ReferredCorruptions):
    """CIFAR-10-C as published: <corruption>.npy with 10,000 images a severity, and labels.npy."""

    kind: Literal["cifar10_c"] = "cifar10_c"
    resize: ResizeName = Field("bicubic", description="Pillow's filter for students that do not take 32 pixels.")


BenchmarkSettings = Annotated[
    CleanBenchmark
    | CorruptedBenchmark
    | FolderBenchmark
    | ImageNetFoldersBenchmark
    | ImageNetCBenchmark
    | ObjectNetBenchmark
    | Cifar10Benchmark
    | Cifar10CBenchmark,
    Field(discriminator="kind"),
]
