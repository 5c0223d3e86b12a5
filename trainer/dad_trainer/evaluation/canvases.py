"""The images of a benchmark as canvases in memory, chunk by chunk, decoded by threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from threading import Event

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from dad_datasets.benchmarks import BenchmarkImage, ImageSet
from dad_datasets.benchmarks.evaluation_view import EvaluationView
from dad_datasets.decoding import UndecodableImageError
from dad_datasets.errors import UserError
from dad_datasets.views import Canvas

_NAMED = 10  # bad images in a result; all of them are counted
_READ_AHEAD = 256  # encoded images in flight, which bounds the memory that they take


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Consecutive images of a set, those that could be read."""

    keys: tuple[str, ...]
    pixels: UInt8[Tensor, "n 3 s s"]
    labels: Int[Tensor, " n"]
    last: bool


@dataclass(kw_only=True)
class BadImages:
    """Images that could not be used: how many, and the first with their reasons."""

    count: int = 0
    named: list[str] = field(default_factory=list)

    def add(self, key: str, reason: str) -> None:
        self.count += 1
        if len(self.named) < _NAMED:
            self.named.append(f"{key}: {reason}")


@dataclass(frozen=True, kw_only=True)
class ChunkReader:
    """Reads sets of images into chunks of `chunk_images`; the next chunk is decoded while one is used."""

    view: EvaluationView
    required_size: int | None
    decode_threads: int
    chunk_images: int
    max_bad_images: float
    origin: str

    def read(self, images: ImageSet, bad: BadImages) -> Iterator[Chunk]:
        """The chunks in order; unusable images are added to `bad`.

        UserError as soon as more than the allowed share of the set is unusable, or where nothing is left.
        """
        total = len(images)
        done = usable = 0
        iterator, stop = iter(images), Event()
        with ThreadPoolExecutor(self.decode_threads) as threads, ThreadPoolExecutor(1) as ahead:
            try:
                following = ahead.submit(self._decode, iterator, threads, stop)
                while taken := following.result():
                    following = ahead.submit(self._decode, iterator, threads, stop)
                    done += len(taken)
                    good = self._usable(taken, bad, total)
                    usable += len(good)
                    if usable == 0 and done >= total:
                        raise UserError(f"{self.origin}: none of its {total} images can be used")
                    yield _chunk(good, self.view.size, last=done >= total)
            finally:
                stop.set()  # the caller may have given up; the pools wait for what they have begun

    def _decode(
        self, images: Iterator[BenchmarkImage], threads: ThreadPoolExecutor, stop: Event
    ) -> list[tuple[BenchmarkImage, Canvas | str]]:
        decoded: list[tuple[BenchmarkImage, Canvas | str]] = []
        while not stop.is_set():
            batch = list(islice(images, min(_READ_AHEAD, self.chunk_images - len(decoded))))
            if not batch:
                break
            decoded += zip(batch, threads.map(self._canvas, batch), strict=True)
        return decoded

    def _usable(
        self, taken: Sequence[tuple[BenchmarkImage, Canvas | str]], bad: BadImages, total: int
    ) -> list[tuple[BenchmarkImage, Canvas]]:
        good = []
        for image, outcome in taken:
            if isinstance(outcome, str):
                bad.add(image.key, outcome)
                self._check(bad, total)
            else:
                good.append((image, outcome))
        return good

    def _canvas(self, image: BenchmarkImage) -> Canvas | str:
        try:
            decoded = image.load()
        except UndecodableImageError as error:
            return str(error)
        if self.required_size is not None and decoded.size != (self.required_size, self.required_size):
            return f"has {decoded.width} x {decoded.height} pixels, not {self.required_size} x {self.required_size}"
        return self.view.canvas(decoded)

    def _check(self, bad: BadImages, total: int) -> None:
        if bad.count > self.max_bad_images * total:
            raise UserError(
                f"{self.origin}: {bad.count} of {total} images cannot be used, more than max_bad_images = "
                f"{self.max_bad_images:g}; the first: {bad.named[0]}"
            )


def _chunk(images: Sequence[tuple[BenchmarkImage, Canvas]], size: int, *, last: bool) -> Chunk:
    pixels = np.empty((len(images), size, size, 3), np.uint8)
    for place, (_, canvas) in enumerate(images):
        pixels[place] = canvas
    return Chunk(
        keys=tuple(image.key for image, _ in images),
        pixels=torch.from_numpy(pixels).permute(0, 3, 1, 2),
        labels=torch.tensor([image.label for image, _ in images], dtype=torch.int64),
        last=last,
    )
