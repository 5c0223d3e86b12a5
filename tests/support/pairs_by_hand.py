"""What `Pairs` should give, read by webdataset and Pillow instead; and changes to a stored set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import webdataset
from PIL import Image
from stored_records import canvas_of, npy
from torch.utils.data import DataLoader

from dad_datasets.folder import open_folder
from dad_datasets.manifest import read_manifest, write_manifest
from dad_trainer.reading import Pairs

MakeSet = Callable[[str], Path]
Stored = dict[str, dict[str, Any]]

SIZE, CLASSES = 16, 3


def stored_in(path: Path) -> Stored:
    """The members of all records by key, as webdataset groups them; and the tar that each is in."""
    tars = sorted(str(tar) for tar in path.glob("shards/*.tar"))
    return {sample["__key__"]: sample for sample in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False)}


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """The index rows that are records, by key."""
    rows = [row for index in sorted(path.glob("index/*")) for row in pq.read_table(index).to_pylist()]
    return {row["key"]: row for row in rows if row["status"] != "failed"}


def replayed(root: Path, row: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """A row's clean view by Pillow alone."""
    image = Image.open(root / row["source_key"]).convert("RGB")
    box = tuple(row[f"box_{side}"] for side in ("left", "top", "right", "bottom"))
    canvas = image.crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if row["flip"] else canvas)


def images_and_rows(path: Path, root: Path) -> dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]]:
    """[2, h, w, 3] and [2, c] of each record by key: clean and adversarial, or the clean twice where none was made."""
    stored, found = stored_in(path), {}
    for key, row in rows_of(path).items():
        clean = replayed(root, row)
        if key in stored:
            members = stored[key]
            found[key] = np.stack([clean, canvas_of(members["webp"])]), npy(members["teacher.npy"])
        else:
            found[key] = np.stack([clean] * 2), np.array([row["teacher"]] * 2, np.float16)
    return found


def keys_of(pairs: Pairs) -> list[str]:
    return [pairs.read(place, clean=False, adversarial=False, teacher=False).key for place in range(len(pairs))]


def forget_source(path: Path) -> None:
    change_manifest(path, source={"path": "/nowhere/at/all", "kind": "image_folder"})


def change_manifest(path: Path, *, state: str = "finished", **recipe: object) -> None:
    folder = open_folder(path)
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.model_copy(update={"state": state, "recipe": manifest.recipe | recipe}))


def batches(pairs: Pairs, workers: int) -> Iterator[dict[str, Any]]:
    yield from DataLoader(pairs, batch_size=7, num_workers=workers)
