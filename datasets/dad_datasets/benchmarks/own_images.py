"""Benchmarks of images that come in no published layout: any clean source, and folders mapped to classes."""

from __future__ import annotations

from typing import Literal

from dad_datasets.benchmarks.benchmark import AppliedCorruptions, Benchmark, Condition
from dad_datasets.benchmarks.class_folders import ClassFolders, folders_in
from dad_datasets.benchmarks.class_mapping import StudentClasses, check_same_labels, map_folders, map_labels
from dad_datasets.benchmarks.evaluation_view import EvaluationView
from dad_datasets.benchmarks.settings import Cifar10Benchmark, CleanBenchmark, CorruptedBenchmark, FolderBenchmark
from dad_datasets.benchmarks.source_images import SourceImages
from dad_datasets.errors import UserError
from dad_datasets.sources import open_source

LARGEST_CIFAR_CANVAS = 64
"""Pixels; up to here `strengths: auto` means CIFAR-10-C's, milder ones."""


def from_source(
    settings: CleanBenchmark | Cifar10Benchmark | CorruptedBenchmark,
    student: StudentClasses,
    image_size: int,
    origin: str,
) -> Benchmark:
    """Any layout of clean images, corrupted or not. UserError where labels do not fit the student."""
    source = open_source(settings.source)
    labels = None
    if settings.classes is not None:
        labels = map_labels(source.class_names, settings.classes, student, origin=origin)
    else:
        check_same_labels(source.class_names, student, origin=origin)
        labelled = source.label_range()
        if labelled is not None and labelled[1] >= student.count:
            raise UserError(
                f"{origin}: has labels up to {labelled[1]}, but the student has {student.count} classes; "
                "map the labels in classes"
            )
    applied = None
    if isinstance(settings, CorruptedBenchmark):
        applied = AppliedCorruptions(
            conditions=tuple(
                Condition(corruption=name, severity=severity)
                for name in settings.corruption_names
                for severity in settings.severities
            ),
            strengths=_strengths(settings, image_size),
            seed=settings.seed,
        )
    images = SourceImages(source, labels, num_classes=student.count, origin=origin)
    return Benchmark(
        name=settings.name,
        stored={Condition(): images},
        view=EvaluationView(size=image_size, fraction=settings.fraction, resize=settings.resize),
        applied=applied,
        reference_errors=settings.reference_errors if isinstance(settings, CorruptedBenchmark) else None,
    )


def _strengths(settings: CorruptedBenchmark, image_size: int) -> Literal["imagenet", "cifar"]:
    if settings.strengths != "auto":
        return settings.strengths
    return "cifar" if image_size <= LARGEST_CIFAR_CANVAS else "imagenet"


def from_folders(settings: FolderBenchmark, student: StudentClasses, image_size: int, origin: str) -> Benchmark:
    """Folders of images mapped to classes. UserError where the mapping does not fit folders or student."""
    labels = map_folders(
        folders_in(settings.path, origin=origin),
        settings.classes,
        student,
        ignore_unmapped=settings.ignore_unmapped,
        origin=origin,
    )
    groups = None
    if settings.mask:
        chosen = sorted(set(labels.values()))
        groups = tuple((index,) for index in chosen)
        labels = {folder: chosen.index(index) for folder, index in labels.items()}
    images = ClassFolders(settings.path, labels, origin=origin)
    return Benchmark(
        name=settings.name,
        stored={Condition(): images},
        view=EvaluationView(size=image_size, fraction=settings.fraction, resize=settings.resize),
        groups=groups,
    )
