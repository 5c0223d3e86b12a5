"""Miniatures of the published benchmarks: ImageNet's ids, and images whose colours say their labels."""

from __future__ import annotations

from typing import Any

from coded_images import class_of
from timm.data import ImageNetInfo

from dad_datasets.benchmarks import Benchmark, Condition, StudentClasses, open_benchmark
from dad_datasets.benchmarks.settings import BenchmarkSettings
from dad_datasets.settings import Settings, build_settings

WNIDS: tuple[str, ...] = tuple(ImageNetInfo("imagenet-1k").label_names())
IMAGENET = StudentClasses(count=1000)
SUBSET = {WNIDS[index]: index for index in range(999, 0, -5)}
"""200 of the 1000 classes."""


class Section(Settings):
    benchmark: BenchmarkSettings


def settings_of(**raw: Any) -> BenchmarkSettings:
    return build_settings(Section, {"benchmark": {"name": "b", **raw}}, origin="recipe").benchmark


def opened(student: StudentClasses, *, image_size: int = 8, **raw: Any) -> Benchmark:
    return open_benchmark(settings_of(**raw), student, image_size=image_size, imagenet_wnids=WNIDS)


def assert_colours_say_the_labels(benchmark: Benchmark, condition: Condition, count: int) -> list[str]:
    """Each image's colour is of a class that its label stands for; the keys."""
    images = list(benchmark.stored[condition])
    assert len(images) == len(benchmark.stored[condition]) == count
    for image in images:
        told = class_of(benchmark.view.canvas(image.load())[0, 0])
        expected = (image.label,) if benchmark.groups is None else benchmark.groups[image.label]
        assert told in expected
    keys = [image.key for image in images]
    assert len(set(keys)) == count
    return keys
