"""A generation run small enough for tests: 24 images, a timm network and a VQGAN of random weights."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from dad_pipeline.generation_run import generate_dataset
from dad_pipeline.models import Models
from dad_pipeline.quantizer import Quantizer, QuantizerArchitecture
from dad_pipeline.quantizer_checkpoint import save_quantizer
from dad_pipeline.recipe import Recipe
from dad_pipeline.runners.inline_runner import InlineRunner
from dad_pipeline.runners.runner import Runner

NUM_CLASSES, IMAGES_PER_CLASS, NUM_IMAGES = 3, 8, 24

RawRecipe = dict[str, Any]


def write_images(root: Path) -> Path:
    """Three class folders of eight smooth images of 20 x 18 pixels."""
    rng = np.random.default_rng(0)
    for label in range(NUM_CLASSES):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(IMAGES_PER_CLASS):
            coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            coarse.resize((20, 18), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return root


def write_quantizer(folder: Path) -> Path:
    """A VQGAN of factor 2 whose 64 codes are spread like its latents, of random weights."""
    torch.manual_seed(0)
    architecture = QuantizerArchitecture(
        n_embed=64, embed_dim=4, z_channels=4, resolution=16, ch=32, ch_mult=(1, 1), num_res_blocks=1
    )
    quantizer = Quantizer(architecture)
    with torch.no_grad():
        quantizer.quantize.get_parameter("embedding.weight").normal_(std=0.5)
    folder.mkdir(parents=True, exist_ok=True)
    save_quantizer(quantizer, folder)
    return folder


def tiny_recipe(images: Path, quantizer: Path) -> RawRecipe:
    """Units of 10, 10 and 4 images, two views each, in batches that do not divide a unit."""
    return {
        "source": {"path": str(images)},
        "views": {"size": 16, "draw": [{"kind": "centre"}, {"kind": "random_resized_crop"}]},
        "teacher": {
            "kind": "timm",
            "architecture": "test_resnet",
            "checkpoint": "random",
            "seed": 0,
            "image_size": 32,
        },
        "quantizer": {"checkpoint": str(quantizer)},
        "attack": {"epsilon": 2.0, "step_size": 1.0, "steps": 2},
        "compute": {"device": "cpu", "batch_size": 8, "threads": 1},
        "check": {"allow_near_chance": True},
        "samples_per_shard": 10,
    }


def run_recipe(
    raw: RawRecipe, out: Path | str, make_runner: Callable[[Models], Runner] = InlineRunner
) -> tuple[bool, str]:
    """Whether every unit was finished, and what the user saw."""
    screen = io.StringIO()
    console = Console(file=screen, width=200)
    recipe = Recipe.model_validate(raw)
    complete = generate_dataset(recipe, str(out), make_runner=make_runner, runner_name="test", console=console)
    return complete, screen.getvalue()


def dataset_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset that equal runs must have equal: all but runs/."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != "runs"
    }
