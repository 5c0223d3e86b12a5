"""What the shards and indexes of a dataset hold, record by record in the order of the units."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from dad_datasets.folder import open_folder
from dad_datasets.index import read_index
from dad_datasets.shard_reader import open_shard

Row = dict[str, Any]


def rows_of(out: Path) -> list[Row]:
    units = sorted(path.stem for path in (out / "index").glob("*.parquet"))
    return [row | {"unit": unit} for unit in units for row in read_index(open_folder(out), unit).to_pylist()]


def read_all(out: Path, column: str) -> list[bytes]:
    folder = open_folder(out)
    contents = []
    for row in rows_of(out):
        with open_shard(folder, row["unit"]) as shard:
            contents.append(shard.member(row, column))
    return contents


def npy(content: bytes) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def canvas_of(content: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
