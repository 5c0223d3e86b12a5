"""Which students are run together on which benchmark: those of one image size and one list of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from timm.data import ImageNetInfo

from dad_datasets.benchmarks import Benchmark, BenchmarkSettings, StudentClasses, open_benchmark
from dad_trainer.evaluation.inference import input_size
from dad_trainer.students import Student


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One benchmark as students of one kind see it, and their names."""

    settings: BenchmarkSettings
    benchmark: Benchmark
    students: tuple[str, ...]


def assign(students: Mapping[str, Student], benchmarks: Sequence[BenchmarkSettings]) -> list[Assignment]:
    """Every student on every benchmark, each set of images read once for all students that see it alike.

    UserError for the first benchmark that is not there or does not fit a student.
    """
    wnids = imagenet_wnids()
    alike: dict[tuple[StudentClasses, int], list[str]] = {}
    for name, student in students.items():
        classes = StudentClasses(count=student.num_classes, names=student.class_names)
        alike.setdefault((classes, input_size(student)), []).append(name)
    return [
        Assignment(
            settings=settings,
            benchmark=open_benchmark(settings, classes, image_size=size, imagenet_wnids=wnids),
            students=tuple(names),
        )
        for settings in benchmarks
        for (classes, size), names in alike.items()
    ]


def imagenet_wnids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet-1k in label order, as timm ships them."""
    return tuple(ImageNetInfo("imagenet-1k").label_names())
