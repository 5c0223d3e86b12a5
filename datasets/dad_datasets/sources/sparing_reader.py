"""A source read with care: images that end the process which decodes them come with that as their problem."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from dad_datasets.decoding_trial import DECODING_LIMIT_S, FATAL, fatal_images
from dad_datasets.sources.clean_source import CleanSample, WorkUnit


class UnitReader(Protocol):
    """What gives the samples of a work unit: every `CleanSource`, for one."""

    def read(self, unit: WorkUnit) -> Iterator[CleanSample]:
        """See `CleanSource.read`."""


class SparingReader:
    """Reads each unit of `source` twice: first through a child that tries to decode every image, then for good."""

    def __init__(self, source: UnitReader, *, max_pixels: int, limit_s: float = DECODING_LIMIT_S) -> None:
        """`limit_s`: an image that takes longer counts as one on which the decoder hangs."""
        self._source = source
        self._max_pixels = max_pixels
        self._limit_s = limit_s

    def read(self, unit: WorkUnit) -> Iterator[CleanSample]:
        """The samples as they are, but for the problem of those that must not be decoded."""
        fatal = _fatal(self._source.read(unit), self._max_pixels, self._limit_s)
        for number, sample in enumerate(self._source.read(unit)):
            yield _with_problem(sample, fatal.get(number))


def spared(samples: Sequence[CleanSample], *, max_pixels: int) -> list[CleanSample]:
    """The same for samples in memory."""
    fatal = _fatal(samples, max_pixels, DECODING_LIMIT_S)
    return [_with_problem(sample, fatal.get(number)) for number, sample in enumerate(samples)]


def is_fatal(reason: str) -> bool:
    """Whether a failed row's reason says that its image must not be decoded again."""
    return reason.startswith(FATAL)


def _fatal(samples: Iterable[CleanSample], max_pixels: int, limit_s: float) -> dict[int, str]:
    images = (b"" if sample.problem else sample.image for sample in samples)
    return fatal_images(images, max_pixels=max_pixels, limit_s=limit_s)


def _with_problem(sample: CleanSample, problem: str | None) -> CleanSample:
    return sample if problem is None else replace(sample, problem=problem)
