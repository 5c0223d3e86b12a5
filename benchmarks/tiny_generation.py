"""A generation run of seconds on real images: small photographs, networks of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import skimage
from PIL import Image

from dad_datasets.seeding import generator_for

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
NUM_CLASSES, SIDE = 4, 24


def write_photographs(folder: Path, count: int) -> None:
    """`count` small crops of scikit-image's photographs as an ImageFolder; the classes are arbitrary."""
    source = Path(skimage.__file__).parent / "data"
    whole = [Image.open(source / name).convert("RGB").resize((300, 240)) for name in PHOTOGRAPHS]
    for number in range(count):
        photograph = whole[number % len(whole)]
        rng = generator_for("photograph", number)
        left, top = (int(rng.integers(0, extent - SIDE)) for extent in photograph.size)
        target = folder / f"class{number % NUM_CLASSES}" / f"{number:05d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        photograph.crop((left, top, left + SIDE, top + SIDE)).save(target)


def write_quantizer(folder: Path) -> None:
    """A VQGAN of factor 2 with 64 codes, of random weights, its codebook spread like its latents."""
    import torch

    from dad_pipeline.quantizer import Quantizer, QuantizerArchitecture
    from dad_pipeline.quantizer_checkpoint import save_quantizer

    torch.manual_seed(0)
    architecture = QuantizerArchitecture(
        n_embed=64, embed_dim=4, z_channels=4, resolution=16, ch=32, ch_mult=(1, 1), num_res_blocks=1
    )
    quantizer = Quantizer(architecture)
    with torch.no_grad():
        quantizer.quantize.get_parameter("embedding.weight").normal_(std=0.5)
    folder.mkdir(parents=True, exist_ok=True)
    save_quantizer(quantizer, folder)


def tiny_recipe(photographs: Path, quantizer: Path, *, samples_per_shard: int) -> dict[str, Any]:
    """A recipe of one attacked view an image."""
    return {
        "source": {"path": str(photographs)},
        "views": {"size": 16, "draw": [{"kind": "random_resized_crop"}]},
        "teacher": {
            "kind": "timm",
            "architecture": "test_resnet",
            "checkpoint": "random",
            "seed": 0,
            "image_size": 32,
        },
        "quantizer": {"checkpoint": str(quantizer)},
        "attack": {"epsilon": 2.0, "step_size": 1.0, "steps": 1},
        "compute": {"device": "cpu", "batch_size": 4, "threads": 1},
        "check": {"samples": 16, "allow_near_chance": True},
        "samples_per_shard": samples_per_shard,
    }
