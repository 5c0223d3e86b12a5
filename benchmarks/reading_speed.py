"""How fast records come back, in random order, on one core.

    python benchmarks/reading_speed.py --out benchmarks/results/speed

Sets of photographs in local shards that the page cache holds. Bytes: the image's file, the label and both rows of
logits of each record in random order, against webdataset going through the tars in sequence, undecoded too. Decoded:
`Pairs.read_many` of 64 records, which adds the pixels, against Pillow decoding the same files from memory in the same
order, told that they are WebP. In CPU time, round by round. Memory: that of a process of its own over five epochs, maps
of files left out.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import webdataset
from measurement import CPU, Figure, SpeedResult, alternated, publish, ratios
from PIL import Image
from stored_set import CIFAR, IMAGENET_F8, write_set

from dad_datasets.folder import LocalFolder
from dad_datasets.manifest import read_manifest
from dad_datasets.seeding import generator_for
from dad_datasets.shard_files import ShardFiles
from dad_trainer import open_pairs
from dad_trainer.reading.record_reading import RecordChoice, read_records
from dad_trainer.reading.stored_form import stored_form
from dad_trainer.reading.teacher_rows import TeacherRows

ROUNDS = 9
UNITS = 8
VIEWS_PER_UNIT = {32: 500, 224: 100}
EPOCHS = 5
BATCH = 64
"""Records that a loader asks for at once."""


def readers_of(path: Path) -> tuple[dict[str, Callable[[], None]], int]:
    """Functions that read a whole set once, by name, and how many records it holds."""
    folder = LocalFolder(path)
    manifest = read_manifest(folder)
    form = stored_form(manifest, origin=folder.url)
    records = read_records(folder, manifest, form, RecordChoice(clean_images=False))
    files, pairs = ShardFiles(path), open_pairs(path, clean_images=False)
    logits = TeacherRows(files, form, temperature=None)
    order = reading_order(len(records))
    batches = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
    tars = [str(tar) for tar in sorted(path.glob("shards/*.tar"))]

    def image_file(record: int) -> bytes:
        offset, length = records.spans["image"][record].tolist()
        return files.read(records.units[records.shards[record]], offset, length)

    in_memory = [image_file(record) for record in range(len(records))]

    def random_access() -> None:
        for together in batches:
            [image_file(record) for record in together], records.labels[together], logits.read(records, together)

    def sequence() -> None:
        for _ in webdataset.WebDataset(tars, shardshuffle=False):
            pass

    def decoded() -> None:
        for together in batches:
            pairs.read_many(together, clean=False)

    def codec() -> None:
        for record in order:
            np.asarray(Image.open(io.BytesIO(in_memory[record]), formats=("WEBP",)))

    return {"random": random_access, "sequence": sequence, "decoded": decoded, "codec": codec}, len(records)


def reading_order(count: int) -> list[int]:
    order: list[int] = generator_for("reading order").permutation(count).tolist()
    return order


def reading_figures(path: Path, size: int, rounds: int) -> list[Figure]:
    """Of one set."""
    readers, count = readers_of(path)
    seconds = alternated(readers, rounds=rounds, clock=CPU)
    us = {name: statistics.median(each) / count * 1e6 for name, each in seconds.items()}
    return [
        Figure.of(
            f"reading at {size} px: random access over webdataset in sequence",
            ratios(seconds["sequence"], seconds["random"]),
            unit="x",
            at_least=5,
            note=f"{1e6 / us['random']:,.0f} against {1e6 / us['sequence']:,.0f} samples/s a core",
        ),
        Figure.of(
            f"reading at {size} px: with decoding, over the bare codec",
            ratios(seconds["decoded"], seconds["codec"]),
            unit="x",
            at_most=1.1,
            note=f"{us['decoded']:,.0f} against {us['codec']:,.0f} us an image",
        ),
    ]


def memory_figure(path: Path) -> Figure:
    """Of a process of its own."""
    ran = subprocess.run([sys.executable, __file__, "--epochs", str(path)], capture_output=True, text=True, check=True)
    first, last = json.loads(ran.stdout)
    return Figure(
        name="reading: private memory gained in four more epochs",
        value=round((last - first) / 2**20, 2),
        unit="MiB",
        at_most=1,
        note=f"{first / 2**20:,.0f} MiB after the first one",
    )


def read_epochs(path: Path) -> list[int]:
    """Bytes of private memory after the first and after the last of EPOCHS epochs, each record decoded."""
    pairs = open_pairs(path, clean_images=False)
    private = []
    for _ in range(EPOCHS):
        order = reading_order(len(pairs))
        for first in range(0, len(order), BATCH):
            pairs.read_many(order[first : first + BATCH], clean=False)
        lines = Path("/proc/self/status").read_text().splitlines()
        private.append(int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024)
    return [private[0], private[-1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(), help="folder for reading_speed.json")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it works")
    parser.add_argument("--epochs", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.epochs is not None:
        print(json.dumps(read_epochs(arguments.epochs)))
        return
    figures = []
    with tempfile.TemporaryDirectory() as temporary:
        for form in (IMAGENET_F8, CIFAR):
            path = Path(temporary) / str(form.size)
            views = 3 if arguments.small else VIEWS_PER_UNIT[form.size]
            write_set(path, form, units=UNITS, views_per_unit=views)
            figures += reading_figures(path, form.size, 2 if arguments.small else ROUNDS)
        figures.append(memory_figure(path))
    libraries = ("numpy", "pillow", "webdataset")
    result = SpeedResult.here(
        "reading_speed", "Reading", figures, libraries=libraries, seeds=(0,), small=arguments.small
    )
    publish(arguments.out, result)


if __name__ == "__main__":
    main()
