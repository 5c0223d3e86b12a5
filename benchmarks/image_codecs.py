"""What the image codecs take on photographs, in bytes and in time, from which the stored format was chosen.

    python benchmarks/image_codecs.py --out benchmarks/results/speed

One image at a time on one thread, in CPU time, the best of three rounds; and the default codec on one thread and on
two, in wall time.
"""

from __future__ import annotations

import argparse
import io
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from measurement import CPU, Figure, SideTable, SpeedResult, alternated, publish, ratios
from photograph_crops import photograph_crops
from PIL import Image

from dad_datasets.image_codec import encode_canvas
from dad_datasets.views import Canvas

Item = TypeVar("Item")

ROUNDS = 3
PICTURES = {32: 400, 224: 32}
THREAD_PICTURES, THREAD_ROUNDS = 64, 7


@dataclass(frozen=True)
class Codec:
    """A format of Pillow's and what it is told."""

    name: str
    file_format: str
    options: dict[str, int | bool]

    def encode(self, image: Image.Image) -> bytes:
        stream = io.BytesIO()
        image.save(stream, self.file_format, **self.options)
        return stream.getvalue()


def _webp(method: int, quality: int) -> Codec:
    options: dict[str, int | bool] = {"lossless": True, "quality": quality, "method": method}
    return Codec(f"WebP lossless, method {method}, quality {quality}", "WEBP", options)


EFFORTS = ((0, 25), (1, 0), (1, 25), (1, 50), (2, 25), (3, 25), (4, 25), (4, 75), (6, 75))
CODECS = (
    *(_webp(method, quality) for method, quality in EFFORTS),
    *(Codec(f"PNG, level {level}", "PNG", {"compress_level": level}) for level in (1, 4, 6, 9)),
    *(Codec(f"WebP lossy, quality {quality}", "WEBP", {"quality": quality}) for quality in (90, 95)),
    Codec("JPEG, quality 95, 4:4:4", "JPEG", {"quality": 95, "subsampling": 0}),
)


def codec_table(size: int, count: int, codecs: Sequence[Codec] = CODECS) -> SideTable:
    """Mean bytes and CPU milliseconds of an image."""
    canvases = photograph_crops(size, count)
    images = [Image.fromarray(canvas) for canvas in canvases]
    stored = encode_canvas(canvases[0], "webp")
    rows = []
    for codec in codecs:
        files = [codec.encode(image) for image in images]
        encoding, decoding = best_ms(codec.encode, images), best_ms(decode, files)
        name = f"**{codec.name}** (stored)" if files[0] == stored else codec.name
        rows.append((name, f"{statistics.fmean(map(len, files)):,.0f}", f"{encoding:.2f}", f"{decoding:.2f}"))
    columns = ("codec", "bytes", "encoding, CPU ms", "decoding, CPU ms")
    return SideTable(title=f"Codecs on {count} photographs of {size} px", columns=columns, rows=tuple(rows))


def best_ms(run: Callable[[Item], object], items: Sequence[Item]) -> float:
    """CPU milliseconds an item in the best of the rounds."""
    seconds = []
    for _ in range(ROUNDS):
        started = CPU()
        for item in items:
            run(item)
        seconds.append(CPU() - started)
    return min(seconds) / len(items) * 1e3


def decode(file: bytes) -> Canvas:
    """Whatever it is."""
    return np.asarray(Image.open(io.BytesIO(file)))


def thread_figure(count: int, rounds: int) -> Figure:
    """Pillow lets other threads run while it encodes."""
    canvases = photograph_crops(224, count)

    def encode(threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda canvas: encode_canvas(canvas, "webp"), canvases))

    seconds = alternated({"one": partial(encode, 1), "two": partial(encode, 2)}, rounds=rounds)
    return Figure.of("encoding images, two threads over one", ratios(seconds["one"], seconds["two"]), unit="x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for image_codecs.json")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it works")
    arguments = parser.parse_args()
    pictures = {32: 2} if arguments.small else PICTURES
    result = SpeedResult.here(
        "image_codecs",
        "Image codecs",
        [thread_figure(2, 2) if arguments.small else thread_figure(THREAD_PICTURES, THREAD_ROUNDS)],
        libraries=("pillow",),
        seeds=(0,),
        small=arguments.small,
        tables=[codec_table(size, count) for size, count in pictures.items()],
    )
    publish(arguments.out, result)


if __name__ == "__main__":
    main()
