"""Five shifts of our own, none a relative of the 15 common corruptions, fixed before any student was tested on them.

    python recipes/robustness/make_shifts.py --images DATA/test.parquet --out DATA/shifts

Each becomes a Parquet file of lossless PNGs in the layout of its source, so that `dad evaluate` reads it as any clean
set; pictures.png shows the first images of each. What is drawn for an image is a function of the shift and of the
image's row alone.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dad_datasets.seeding import generator_for

Pixels = npt.NDArray[np.uint8]
"""[side, side, 3], RGB."""

Shift = Callable[[Pixels, Pixels, np.random.Generator], Pixels]
"""Of an image, another image of another class, and a generator."""

RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def hue_rotation(image: Pixels, _other: Pixels, rng: np.random.Generator) -> Pixels:
    """The chroma plane of YIQ turned by 60 to 300 degrees: other colours, the same brightness."""
    angle = np.deg2rad(rng.uniform(60, 300))
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix = np.linalg.inv(RGB_TO_YIQ) @ turn @ RGB_TO_YIQ
    return _to_uint8(image @ matrix.T)


def posterised(image: Pixels, _other: Pixels, _rng: np.random.Generator) -> Pixels:
    """Two levels a channel, cut at the image's own median: eight flat colours."""
    return np.where(image > np.median(image, axis=(0, 1)), 208, 48).astype(np.uint8)


def edges(image: Pixels, _other: Pixels, _rng: np.random.Generator) -> Pixels:
    """A drawing: the gradient of the grey image, dark lines on white."""
    grey = np.pad(image.mean(2), 1, mode="edge")
    vertical, horizontal = grey[2:, 1:-1] - grey[:-2, 1:-1], grey[1:-1, 2:] - grey[1:-1, :-2]
    strength = np.hypot(vertical, horizontal)
    lines = 255 - 255 * np.minimum(strength / max(np.quantile(strength, 0.95), 1.0), 1)
    return np.repeat(_to_uint8(lines)[:, :, None], 3, axis=2)


def patch_shuffle(image: Pixels, _other: Pixels, rng: np.random.Generator) -> Pixels:
    """The four quadrants in another order: texture and parts stay, the shape goes."""
    half = len(image) // 2
    quadrants = [image[top : top + half, left : left + half] for top in (0, half) for left in (0, half)]
    order = (np.arange(4) + rng.integers(1, 4)) % 4
    a, b, c, d = (quadrants[place] for place in order)
    return np.vstack([np.hstack([a, b]), np.hstack([c, d])])


def foreign_background(image: Pixels, other: Pixels, _rng: np.random.Generator) -> Pixels:
    """Outside of the inscribed circle (12 of 16 pixels of radius at 32 px), the image of another class."""
    side = len(image)
    places = np.arange(side) - (side - 1) / 2
    inside = np.hypot(places[:, None], places[None, :]) <= 0.375 * side
    return np.where(inside[:, :, None], image, other)


SHIFTS: Mapping[str, Shift] = {
    "hue_rotation": hue_rotation,
    "posterised": posterised,
    "edges": edges,
    "patch_shuffle": patch_shuffle,
    "foreign_background": foreign_background,
}


def shifted(images: list[Pixels], labels: list[int], name: str) -> list[Pixels]:
    """Every image under the shift `name`."""
    found = []
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        rng = generator_for("shift", name, row)
        others = [place for place, other_label in enumerate(labels[row + 1 :] + labels[:row]) if other_label != label]
        other = images[(row + 1 + others[0]) % len(images)]
        found.append(SHIFTS[name](image, other, rng))
    return found


def make_shifts(source: Path, out: Path, count: int) -> None:
    table = pq.read_table(source).slice(0, count)
    images = [np.asarray(Image.open(io.BytesIO(cell["bytes"].as_py())).convert("RGB")) for cell in table["img"]]
    labels: list[int] = table["label"].to_pylist()
    out.mkdir(parents=True, exist_ok=True)
    rows = [np.hstack(images[:12])]
    for name in SHIFTS:
        found = shifted(images, labels, name)
        rows.append(np.hstack(found[:12]))
        cells = [{"bytes": _png(image), "path": f"{row}.png"} for row, image in enumerate(found)]
        temporary = out / f".{name}.tmp"
        pq.write_table(pa.table({"img": cells, "label": labels}), temporary)
        temporary.replace(out / f"{name}.parquet")
        print(f"{out / name}.parquet: {len(found)} images")
    picture = Image.fromarray(np.vstack(rows))
    picture.resize((3 * picture.width, 3 * picture.height), Image.Resampling.NEAREST).save(out / "pictures.png")


def _png(image: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def _to_uint8(values: npt.NDArray[np.floating]) -> Pixels:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="Parquet file with the columns img and label")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--count", type=int, default=2000, help="number of images, from the first")
    arguments = parser.parse_args()
    make_shifts(arguments.images, arguments.out, arguments.count)
