"""A benchmark found, checked against its published layout and against the student, before the student runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dad_datasets.benchmarks.benchmark import Benchmark, FirstImages
from dad_datasets.benchmarks.cifar10_c import NUM_CLASSES, open_cifar10_c
from dad_datasets.benchmarks.class_mapping import StudentClasses
from dad_datasets.benchmarks.evaluation_view import EvaluationView
from dad_datasets.benchmarks.imagenet import imagenet_c, imagenet_classes
from dad_datasets.benchmarks.imagenet_folders import check_student
from dad_datasets.benchmarks.own_images import from_folders, from_source
from dad_datasets.benchmarks.settings import (
    BenchmarkSettings,
    Cifar10Benchmark,
    Cifar10CBenchmark,
    CleanBenchmark,
    CorruptedBenchmark,
    FolderBenchmark,
    ImageNetCBenchmark,
)
from dad_datasets.errors import UserError


def open_benchmark(
    settings: BenchmarkSettings, student: StudentClasses, *, image_size: int, imagenet_wnids: Sequence[str]
) -> Benchmark:
    """The benchmark of `settings` for students with these classes that take images of `image_size` pixels.

    `imagenet_wnids` are the WordNet ids of ImageNet-1k in label order. UserError, with the benchmark's name, where
    files are missing or not laid out as published, or where the student's classes do not fit.
    """
    benchmark = _open_whole(settings, student, image_size, imagenet_wnids)
    if settings.max_images is None:
        return benchmark
    limited = {
        condition: FirstImages(images=images, limit=settings.max_images)
        for condition, images in benchmark.stored.items()
    }
    return replace(benchmark, stored=limited)


def _open_whole(
    settings: BenchmarkSettings, student: StudentClasses, image_size: int, imagenet_wnids: Sequence[str]
) -> Benchmark:
    origin = f"benchmark {settings.name}"
    if isinstance(settings, CleanBenchmark | CorruptedBenchmark):
        return from_source(settings, student, image_size, origin)
    if isinstance(settings, FolderBenchmark):
        return from_folders(settings, student, image_size, origin)
    if isinstance(settings, Cifar10Benchmark | Cifar10CBenchmark):
        if student.count != NUM_CLASSES:
            raise UserError(f"{origin}: needs a student with CIFAR-10's 10 classes; it has {student.count}")
        if isinstance(settings, Cifar10Benchmark):
            return from_source(settings, student, image_size, origin)
        return _cifar10_c(settings, image_size, origin)
    check_student(student, imagenet_wnids, origin=origin)
    if isinstance(settings, ImageNetCBenchmark):
        return imagenet_c(settings, image_size, imagenet_wnids, origin)
    return imagenet_classes(settings, image_size, imagenet_wnids, origin)


def _cifar10_c(settings: Cifar10CBenchmark, image_size: int, origin: str) -> Benchmark:
    return Benchmark(
        name=settings.name,
        stored=open_cifar10_c(settings.path, settings.corruption_names, settings.severities, origin=origin),
        view=EvaluationView(size=image_size, resize=settings.resize),
        reference_errors=settings.reference_errors,
    )
