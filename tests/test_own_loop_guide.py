"""docs/own-training-loop.md: its code and its commands, run as they stand there on a small set."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from guide import ROOT, read_blocks
from PIL import Image
from timm.data import create_dataset
from tiny_run import run_recipe, tiny_recipe, write_images, write_quantizer

from dad_datasets.folder import open_folder
from dad_datasets.index import read_index
from dad_datasets.record import pixels_sha256
from dad_datasets.summary import finished_units

BLOCKS = read_blocks(ROOT / "docs" / "own-training-loop.md")
PYTHON = [block.text for block in BLOCKS if block.language == "python"]
COMMANDS = [command for block in BLOCKS if block.language == "" for command in block.commands()]

NUM_IMAGES, NUM_CLASSES, IMAGES_A_SHARD = 24, 3, 3  # eight shards, as the demo has

SMALLER = {
    "dad prepare": f" --samples-per-shard {IMAGES_A_SHARD}",
    "python recipes/lightning_loop.py": " --architecture test_resnet --batch-size 6 --steps 5",
}
"""What is added to the commands that begin so; the last of two equal options counts."""

ELSEWHERE = {
    "python train.py": "timm's script is not in its package; what it hands on is tried below",
    "python recipes/own_loop.py": "tests/trainer/test_pairs_refusals.py runs it",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where runs/demo is like the demo's, under the same names, and recipes/ is the repository's."""
    base = tmp_path_factory.mktemp("guide")
    images = sorted(write_images(base / "tiny").glob("*/*.png"))
    contents = [{"bytes": path.read_bytes(), "path": path.name} for path in images]
    table = pa.table({"image": contents, "label": [int(path.parent.name[-1]) for path in images]})
    (base / "runs/demo/mnist").mkdir(parents=True)
    for split in ("train", "validation", "test"):
        pq.write_table(table, base / f"runs/demo/mnist/{split}-00000-of-00001.parquet")
    recipe = tiny_recipe(base / "runs/demo/mnist/train-00000-of-00001.parquet", write_quantizer(base / "quantizer"))
    recipe |= {"samples_per_shard": IMAGES_A_SHARD, "class_names": ["ant", "bee", "cat"]}
    complete, screen = run_recipe(recipe, base / "runs/demo/dad")
    assert complete, screen
    (base / "recipes").symlink_to(ROOT / "recipes")
    return base


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The index, by key."""
    dataset = open_folder(folder / "runs/demo/dad")
    found = [row for unit in finished_units(dataset) for row in read_index(dataset, unit).to_pylist()]
    assert len(found) == 2 * NUM_IMAGES
    return {row["key"]: row for row in found}


def code_with(word: str) -> str:
    """The one piece of code in the guide that holds `word`."""
    (text,) = (text for text in PYTHON if word in text)
    return text


def run_code(word: str, change: tuple[str, str] = ("", "")) -> dict[str, Any]:
    """The names that it leaves, run with `change` made in it."""
    text, names = code_with(word), dict[str, Any]()
    assert change[0] in text
    exec(compile(text.replace(*change), "own-training-loop.md", "exec"), names)
    return names


def test_nothing_in_the_guide_is_left_out() -> None:
    words = ("loss.backward()", "epoch_order", "WebLoader", "load_dataset", "create_loader")
    assert sorted(PYTHON) == sorted(map(code_with, words))
    assert {command.split()[0] for command in COMMANDS} == {"python", "dad"}


def test_the_loop_trains(here: Path, rows: dict[str, dict[str, Any]]) -> None:
    names = run_code("loss.backward()")
    kept = [row for row in rows.values() if row["teacher_clean_top1"] == row["label"]]
    assert 0 < len(names["pairs"]) == len(kept) < len(rows)
    assert torch.isfinite(names["loss"])
    assert names["pairs"][0].keys() == {
        "key", "source_key", "view", "label", "attacked", "clean", "adversarial", "teacher"
    }  # fmt: skip


def test_the_order_is_an_epoch_s_without_what_was_seen(here: Path) -> None:
    loaders = [run_code("epoch_order", ("done = 128", f"done = {seen}"))["rest_of_the_epoch"] for seen in (0, 8)]
    whole, rest = ([key for batch in loader for key in batch["source_key"]] for loader in loaders)
    assert len(whole) == len(set(whole)) == NUM_IMAGES, "each image once"
    assert rest == whole[8:]


def test_webdataset_streams_every_record(here: Path, rows: dict[str, dict[str, Any]]) -> None:
    batches = list(run_code("WebLoader")["loader"])
    images = np.concatenate([batch["adversarial"] for batch in batches])
    labels = np.concatenate([batch["label"] for batch in batches])
    found = sorted((pixels_sha256(image), int(label)) for image, label in zip(images, labels, strict=True))
    assert found == sorted((row["image_sha256"], row["label"]) for row in rows.values())
    assert {batch["teacher"].shape[1:] for batch in batches} == {(2, NUM_CLASSES)}


def test_hugging_face_names_labels_and_filters(here: Path, rows: dict[str, dict[str, Any]]) -> None:
    names = run_code("load_dataset")
    row = rows[names["first"]["__key__"]]
    assert pixels_sha256(np.asarray(names["image"].convert("RGB"))) == row["image_sha256"]
    assert names["label"] == ["ant", "bee", "cat"][row["label"]]
    assert np.shape(names["logits"]) == (2, NUM_CLASSES)
    assert len(names["hard"]) == sum(row["objective_after"] > 1.0 for row in rows.values())


def test_timm_s_functions_take_it(here: Path, rows: dict[str, dict[str, Any]]) -> None:
    names = run_code("create_loader")
    pixels, labels = next(iter(names["loader"]))
    assert pixels.shape[1:] == (3, 32, 32)
    assert set(labels.tolist()) <= {0, 1, 2}
    found = sorted((pixels_sha256(np.asarray(image)), label) for image, label in names["by_index"])
    assert found == sorted((row["image_sha256"], row["label"]) for row in rows.values())


@pytest.fixture(scope="module")
def ran(folder: Path) -> Path:
    """Every command of the guide, in order, but those of ELSEWHERE."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    for command in COMMANDS:
        if command.startswith(tuple(ELSEWHERE)):
            continue
        command += next((more for begin, more in SMALLER.items() if command.startswith(begin)), "")
        ended = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    return folder


def test_the_commands_run(ran: Path) -> None:
    assert (ran / "runs/lightning/last.ckpt").exists()
    assert "student" in (ran / "runs/lightning/evaluation/results.md").read_text()
    assert len(list((ran / "runs/demo/clean/shards").iterdir())) == NUM_IMAGES // IMAGES_A_SHARD


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python train.py")])
def test_timm_s_script_is_given_splits_that_timm_reads(
    ran: Path, monkeypatch: pytest.MonkeyPatch, command: str, rows: dict[str, dict[str, Any]]
) -> None:
    """By the names of train.py's options, handed on as it hands them to create_dataset."""
    parser = argparse.ArgumentParser()
    for name in ("data-dir", "dataset", "train-split", "val-split", "model"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("num-classes", "batch-size", "workers"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args(shlex.split(command)[2:])
    monkeypatch.chdir(ran)
    found = {
        split: create_dataset(given.dataset, root=given.data_dir, split=split, is_training=training, batch_size=1)
        for split, training in ((given.train_split, True), (given.val_split, False))
    }
    assert found[given.train_split].reader.num_samples == (8000 if "clean" in given.train_split else 4000)
    clean = [Image.open(io.BytesIO(cell["bytes"])) for cell in images_of(ran)]
    expected = [row["image_sha256"] for row in rows.values()]
    if "clean" in given.train_split:
        expected += [pixels_sha256(np.asarray(image.convert("RGB"))) for image in clean]
    shown = create_dataset(given.dataset, root=given.data_dir, split=given.train_split, batch_size=1)
    assert sorted(pixels_sha256(np.asarray(image)) for image, _ in shown) == sorted(expected)
    first_shard = [pixels_sha256(np.asarray(image)) for image, _ in found[given.val_split]]
    assert first_shard == [pixels_sha256(np.asarray(image.convert("RGB"))) for image in clean[:IMAGES_A_SHARD]]


def images_of(folder: Path) -> list[dict[str, Any]]:
    table = pq.read_table(folder / "runs/demo/mnist/train-00000-of-00001.parquet")
    cells: list[dict[str, Any]] = table["image"].to_pylist()
    return cells
