"""Images a second of `dad generate` with two workers over those with one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from measurement import Figure, ratios
from photograph_crops import photograph_crops
from PIL import Image

IMAGES, IMAGES_PER_UNIT, ROUNDS = 960, 16, 5
UNITS_LEFT_OUT = 4
"""Finished first, while a worker is still starting."""


def worker_figure(*, small: bool) -> Figure:
    """Alternated: one worker, two workers, one worker ..."""
    images, rounds = (96, 1) if small else (IMAGES, ROUNDS)
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        recipe = write_inputs(folder, images)
        for number in range(rounds):
            for workers in (1, 2):
                rates[workers].append(images_per_s(recipe, folder / f"out-{number}-{workers}", workers))
    return Figure.of(
        "generation on 2 cores, two workers over one", ratios(rates[2], rates[1]), unit="x", note="one thread each"
    )


def write_inputs(folder: Path, images: int) -> Path:
    """Photographs, a VQGAN of random weights, and the recipe."""
    import torch

    from dad_pipeline.quantizer import Quantizer, QuantizerArchitecture
    from dad_pipeline.quantizer_checkpoint import save_quantizer

    for label in range(2):
        (folder / f"images/class{label}").mkdir(parents=True)
    for number, canvas in enumerate(photograph_crops(32, images)):
        Image.fromarray(canvas).save(folder / f"images/class{number % 2}/{number:05d}.png")
    torch.manual_seed(0)
    (folder / "quantizer").mkdir()
    architecture = QuantizerArchitecture(
        n_embed=256, embed_dim=4, z_channels=4, resolution=32, ch=32, ch_mult=(1, 1), num_res_blocks=1
    )
    save_quantizer(Quantizer(architecture), folder / "quantizer")
    recipe = {
        "source": {"path": str(folder / "images")},
        "views": {"size": 32, "draw": [{"kind": "centre"}]},
        "teacher": {
            "kind": "timm",
            "architecture": "resnet10t",
            "checkpoint": "random",
            "seed": 0,
            "image_size": 64,
        },
        "quantizer": {"checkpoint": str(folder / "quantizer")},
        "attack": {"preset": "released"},
        "compute": {"device": "cpu", "batch_size": 16, "threads": 1},
        "check": {"samples": 0, "allow_near_chance": True},
        "samples_per_shard": IMAGES_PER_UNIT,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def images_per_s(recipe: Path, out: Path, workers: int) -> float:
    """By the times at which the units were published, the first few left out."""
    dad = str(Path(sys.executable).with_name("dad"))
    command = [dad, "generate", str(recipe), "--out", str(out), "--workers", str(workers)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    published = sorted(path.stat().st_mtime for path in (out / "index").iterdir())[UNITS_LEFT_OUT - 1 :]
    return (len(published) - 1) * IMAGES_PER_UNIT / (published[-1] - published[0])
