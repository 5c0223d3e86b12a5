"""Set 5,000 of CIFAR-10's training images aside, before anything else sees them.

    python recipes/robustness/split_cifar10.py --data DIR --out runs/robustness/data

DIR holds CIFAR-10 as on the Hugging Face hub (uoft-cs/cifar10, folder plain_text). Written, with the same columns, the
same image bytes, and in the same order, are

- train.parquet: 45,000 images, which teacher, quantizer, shards and students may see;
- tuning.parquet: the first 15,000 of them, for short trials;
- validation.parquet: 500 of each class, on which everything is chosen;
- test.parquet: the 10,000 test images, opened once, in the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dad_datasets.seeding import generator_for

VALIDATION_PER_CLASS = 500
NUM_TUNING = 15_000
SPLIT_SEED = 0


def read_split(folder: Path, name: str) -> pa.Table:
    files = sorted(folder.glob(f"{name}-*.parquet"))
    if not files:
        raise SystemExit(f"error: no {name}-*.parquet in {folder}; expected CIFAR-10 as on the Hugging Face hub")
    return pa.concat_tables([pq.read_table(file) for file in files])


def held_out_rows(labels: np.ndarray[tuple[int], np.dtype[np.int64]], per_class: int) -> list[int]:
    """Ascending rows of `per_class` images of each class, chosen by SPLIT_SEED alone."""
    rows: list[int] = []
    for label in np.unique(labels):
        candidates = np.flatnonzero(labels == label)
        if len(candidates) <= per_class:
            raise SystemExit(f"error: class {label} has {len(candidates)} images; {per_class} are to be set aside")
        rows += generator_for(SPLIT_SEED, "held out", int(label)).permutation(candidates)[:per_class].tolist()
    return sorted(rows)


def write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    pq.write_table(table, temporary)
    temporary.replace(path)
    print(f"{path}: {table.num_rows} images")


def split(data: Path, out: Path) -> None:
    training = read_split(data, "train")
    held_out = held_out_rows(training["label"].to_numpy(), VALIDATION_PER_CLASS)
    kept = np.setdiff1d(np.arange(training.num_rows), held_out)
    write(training.take(pa.array(kept)).combine_chunks(), out / "train.parquet")
    write(training.take(pa.array(kept[:NUM_TUNING])).combine_chunks(), out / "tuning.parquet")
    write(training.take(pa.array(held_out)).combine_chunks(), out / "validation.parquet")
    write(read_split(data, "test").combine_chunks(), out / "test.parquet")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train-*.parquet and test-*.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    split(arguments.data, arguments.out)
