"""A few photographs of several types, prepared and read back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from dad_datasets.folder import LocalFolder
from dad_datasets.prepared_totals import PreparedTotals
from dad_datasets.preparing import prepare_shards
from dad_datasets.sources import CleanSample, CleanSource, SourceSettings, open_source

NAMES = ["ant", "bee", "cat"]


def picture(number: int, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(stream, kind)
    return stream.getvalue()


def write_photos(root: Path) -> Path:
    """Ten small pictures of three classes, of several types, two of which cannot be used."""
    for number in range(10):
        name = f"{NAMES[number % 3]}/{number} ü.{'JPEG' if number % 2 else 'png'}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(number, "JPEG" if number % 2 else "WEBP"))
    (root / "ant" / "empty.jpg").touch()
    (root / "ant" / "text.jpg").write_bytes(b"<html>")
    return root


def run(source: Path, out: Path, samples_per_shard: int = 5) -> PreparedTotals:
    return prepare_shards(SourceSettings(path=str(source)), LocalFolder(out), samples_per_shard=samples_per_shard)


def read_all(source: CleanSource, samples_per_shard: int = 4) -> list[CleanSample]:
    return [sample for unit in source.plan(samples_per_shard) for sample in source.read(unit)]


def open_at(path: Path | str) -> CleanSource:
    return open_source(SourceSettings(path=str(path)))


def files_of(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
