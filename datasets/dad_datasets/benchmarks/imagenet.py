"""ImageNet-1k's validation set, its variants and ObjectNet as benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

from dad_datasets.benchmarks.benchmark import Benchmark, Condition
from dad_datasets.benchmarks.class_folders import ClassFolders
from dad_datasets.benchmarks.evaluation_view import EvaluationView
from dad_datasets.benchmarks.imagenet_folders import NUM_CLASSES, folder_classes, imagenet_c_images
from dad_datasets.benchmarks.objectnet import read_overlap, without_border
from dad_datasets.benchmarks.settings import ImageNetCBenchmark, ImageNetFoldersBenchmark, ObjectNetBenchmark
from dad_datasets.errors import UserError

IMAGENET_C_SIZE = 224
_EVERY_CLASS = tuple((index,) for index in range(NUM_CLASSES))


def imagenet_c(settings: ImageNetCBenchmark, image_size: int, wnids: Sequence[str], origin: str) -> Benchmark:
    """ImageNet-C. UserError where folders are missing, or the images have another size than the student takes."""
    if image_size != IMAGENET_C_SIZE and not settings.rescale:
        raise UserError(
            f"{origin}: images of ImageNet-C have {IMAGENET_C_SIZE} pixels, the student takes {image_size}; "
            "set rescale to have them resized"
        )
    images = imagenet_c_images(settings.path, settings.corruption_names, settings.severities, wnids, origin=origin)
    return Benchmark(
        name=settings.name,
        stored=images,
        view=EvaluationView(size=image_size),
        required_size=IMAGENET_C_SIZE,
        reference_errors=settings.reference_errors,
    )


def imagenet_classes(
    settings: ImageNetFoldersBenchmark | ObjectNetBenchmark, image_size: int, wnids: Sequence[str], origin: str
) -> Benchmark:
    """The validation set, its variants and ObjectNet. UserError where folders or mappings are not as published."""
    if isinstance(settings, ObjectNetBenchmark):
        groups = read_overlap(settings.path, origin=origin)
        path, crop = f"{settings.path}/images", without_border
    else:
        indices = folder_classes(settings.kind, settings.path, wnids, origin=origin)
        groups = {folder: (index,) for folder, index in indices.items()}
        path, crop = settings.path, None
    labels = {folder: place for place, folder in enumerate(groups)}
    images = ClassFolders(path, labels, origin=origin, crop=crop)
    return Benchmark(
        name=settings.name,
        stored={Condition(): images},
        view=EvaluationView(size=image_size, fraction=settings.fraction, resize=settings.resize),
        groups=None if tuple(groups.values()) == _EVERY_CLASS else tuple(groups.values()),
    )
