"""`datasets.load_dataset` on finished folders in every form of storing, whatever else lies in them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml
from tiny_run import RawRecipe, dataset_bytes, run_recipe

from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.index import read_index
from dad_datasets.manifest import read_manifest
from dad_datasets.record import pixels_sha256
from dad_datasets.summary import finished_units

STORES: dict[str, dict[str, Any]] = {
    "full": {},
    "png": {"image": "png", "codes": False},
    "top_k": {"logits": {"top_k": 2, "temperatures": [1.0, 4.0]}},
    "clean": {"clean": True},
}


@pytest.mark.parametrize("store", STORES)
def test_images_and_named_labels(recipe: RawRecipe, tmp_path: Path, store: str) -> None:
    out = tmp_path / "out"
    complete, screen = run_recipe({**recipe, "store": STORES[store]}, out)
    assert complete, screen
    assert (out / "report.html").exists()
    for sidecar in ("labels/other/shards", "labels/other/index"):
        (out / sidecar).mkdir(parents=True)
    unit = finished_units(open_folder(out))[0]
    shutil.copy(out / "shards" / f"{unit}.tar", out / "labels" / "other" / "shards")
    shutil.copy(out / "index" / f"{unit}.parquet", out / "labels" / "other" / "index")
    rows = {
        row["key"]: row
        for unit in finished_units(open_folder(out))
        for row in read_index(open_folder(out), unit).to_pylist()
    }
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert {sample["__key__"] for sample in loaded} == rows.keys()
    assert len(loaded) == len(rows)
    names = read_manifest(open_folder(out)).class_names
    assert names is not None
    image = "png" if store == "png" else "webp"
    for sample in loaded:
        row = rows[sample["__key__"]]
        assert pixels_sha256(np.asarray(sample[image].convert("RGB"))) == row["image_sha256"]
        assert sample["cls"] == row["label"]
        assert loaded.features["cls"].int2str(sample["cls"]) == names[row["label"]]
        assert sample["json"]["measurements"]["psnr_db"] == pytest.approx(row["psnr_db"])
        assert np.shape(sample["teacher.npy"]) == (2, 2 if store == "top_k" else 3)
        if store == "clean":
            assert pixels_sha256(np.asarray(sample["clean.webp"].convert("RGB"))) == row["canvas_sha256"]
    assert ("codes.npy" in loaded.features) == (store != "png")
    assert ("teacher_rest.npy" in loaded.features) == (store == "top_k")


def test_the_card_changes_no_shard_and_no_fingerprint(recipe: RawRecipe, tmp_path: Path) -> None:
    card = {"pretty_name": "Tiny", "license": "mit", "source": {"name": "noise"}, "notes": "Random."}
    run_recipe(recipe, tmp_path / "plain")
    run_recipe({**recipe, "card": card}, tmp_path / "named")
    plain, named = dataset_bytes(tmp_path / "plain"), dataset_bytes(tmp_path / "named")
    assert {name for name in plain if plain[name] != named[name]} == {"README.md", "manifest.json", "report.html"}
    header = yaml.safe_load(named["README.md"].decode().split("---\n")[1])
    assert (header["pretty_name"], header["license"]) == ("Tiny", "mit")
    complete, _ = run_recipe(recipe, tmp_path / "named")  # goes on, with nothing to do
    assert complete
    assert dataset_bytes(tmp_path / "named") == named
    with pytest.raises(UserError, match="other settings"):
        run_recipe({**recipe, "seed": 1}, tmp_path / "named")
