"""What a benchmark is once its files are found: images under conditions, and how a student's answers are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol

from PIL import Image

from dad_datasets.benchmarks.corruption_names import COMMON_NAMES, CorruptionName
from dad_datasets.benchmarks.evaluation_view import EvaluationView


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """How images are corrupted; both fields are None where they are not."""

    corruption: CorruptionName | None = None
    severity: int | None = None

    def __str__(self) -> str:
        return f"{self.corruption} {self.severity}" if self.corruption else "clean"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkImage:
    """One image. `label` is the student's class, or a place in the benchmark's `groups` where it has these.

    `load` reads and decodes to RGB, in any thread; it raises decoding.UndecodableImageError.
    """

    key: str
    label: int
    load: Callable[[], Image.Image]


class ImageSet(Protocol):
    """The images of one stored condition, in a fixed order."""

    def __len__(self) -> int:
        """Their number, unusable ones included. UserError where the files cannot be listed."""

    def __iter__(self) -> Iterator[BenchmarkImage]: ...

    def identity(self) -> str:
        """sha256 (hex) over names and sizes of the files: whether a result is still one of the same images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstImages:
    """The first `limit` images of a set."""

    images: ImageSet
    limit: int

    def __len__(self) -> int:
        return min(self.limit, len(self.images))

    def __iter__(self) -> Iterator[BenchmarkImage]:
        return islice(self.images, self.limit)

    def identity(self) -> str:
        return self.images.identity()


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedCorruptions:
    """Corruptions that are not stored but made from the canvases."""

    conditions: tuple[Condition, ...]
    strengths: Literal["imagenet", "cifar"]
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """A benchmark that was found and fits the student.

    `stored` maps each condition that has files of its own to its images; `applied` are conditions made from the single
    clean one. `groups` are the student's classes that stand for each class of the benchmark: the student chooses
    among these alone, by the highest logit of each group. None: it chooses among all its classes.
    """

    name: str
    stored: Mapping[Condition, ImageSet]
    view: EvaluationView
    required_size: int | None = None
    applied: AppliedCorruptions | None = None
    groups: tuple[tuple[int, ...], ...] | None = None
    reference_errors: Mapping[str, float] | None = None

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """One row of the results each."""
        return self.applied.conditions if self.applied else tuple(self.stored)


def counted_corruptions(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `names` that means are taken over: the common ones, or all where there is no common one."""
    return tuple(name for name in names if name in COMMON_NAMES) or names
