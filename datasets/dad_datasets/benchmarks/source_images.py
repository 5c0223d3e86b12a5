"""A clean source as the images of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from PIL import Image

from dad_datasets.benchmarks.benchmark import BenchmarkImage
from dad_datasets.decoding import UndecodableImageError, decode_image
from dad_datasets.errors import UserError
from dad_datasets.sources import CleanSample, CleanSource

_SAMPLES_AT_ONCE = 1000  # of a work unit; only the listing of tars depends on it


class SourceImages:
    """The samples of a source in its order, their labels mapped.

    `labels` gives the student's class for each label; without it the label is the class, and must be below
    `num_classes`. A sample with a label that has no class stops the evaluation: the mapping is wrong, not the sample.
    """

    def __init__(self, source: CleanSource, labels: Mapping[int, int] | None, *, num_classes: int, origin: str) -> None:
        self._source = source
        self._labels = labels
        self._num_classes = num_classes
        self._origin = origin
        self._count: int | None = None

    def __len__(self) -> int:
        if self._count is None:
            self._count = sum(unit.count for unit in self._source.plan(_SAMPLES_AT_ONCE))
        return self._count

    def __iter__(self) -> Iterator[BenchmarkImage]:
        for unit in self._source.plan(_SAMPLES_AT_ONCE):
            for sample in self._source.read(unit):
                label = -1 if sample.problem else self._class_of(sample)
                yield BenchmarkImage(key=sample.source_key, label=label, load=partial(_load, sample))

    def identity(self) -> str:
        return self._source.identity()

    def _class_of(self, sample: CleanSample) -> int:
        if self._labels is not None:
            if sample.label not in self._labels:
                raise UserError(f"{self._origin}: label {sample.label} of {sample.source_key} is not in classes")
            return self._labels[sample.label]
        if sample.label >= self._num_classes:
            raise UserError(
                f"{self._origin}: label {sample.label} of {sample.source_key}, but the student has "
                f"{self._num_classes} classes; map the labels in classes"
            )
        return sample.label


def _load(sample: CleanSample) -> Image.Image:
    if sample.problem:
        raise UndecodableImageError(sample.problem)
    return decode_image(sample.image)
