"""Sixteen photographs at 224 px through `dad generate` with the full-size architectures, weights random.

    python benchmarks/full_size.py --out runs/full_size

open_clip ViT-L-14 and the OpenImages VQGAN f8 16384, in the published checkpoint layout. Random weights cost the same
as trained ones: shapes, formats, memory and time count here, nothing else. The photographs are scikit-image's own.
Writes OUT/dad (the dataset), OUT/pictures.png and OUT/result.json, with the hardware named.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import skimage
import torch
import yaml
from machine import hardware, versions
from PIL import Image

from dad_pipeline.quantizer import Quantizer, QuantizerArchitecture
from dad_pipeline.quantizer_training.export import export_quantizer

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
)
NUM_IMAGES, NUM_CLASSES = 16, 4
OPENIMAGES_F8 = QuantizerArchitecture(
    n_embed=16384,
    embed_dim=4,
    z_channels=4,
    resolution=256,
    ch=128,
    ch_mult=(1, 2, 2, 4),
    num_res_blocks=2,
    attn_resolutions=(32,),
)


def write_photographs(folder: Path) -> None:
    """Crops of scikit-image's photographs as an ImageFolder; the classes are arbitrary."""
    source = Path(skimage.__file__).parent / "data"
    for number in range(NUM_IMAGES):
        photograph = Image.open(source / PHOTOGRAPHS[number % len(PHOTOGRAPHS)]).convert("RGB")
        side = min(photograph.size)
        turn = number // len(PHOTOGRAPHS)
        left = (photograph.width - side) * turn // 2
        target = folder / f"class{number % NUM_CLASSES}" / f"{number:02d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        photograph.crop((left, 0, left + side, side)).resize((400, 400)).save(target, quality=95)


def write_quantizer(folder: Path) -> None:
    """The published checkpoint layout with random weights; the codebook is spread so that many codes are used."""
    torch.manual_seed(0)
    quantizer = Quantizer(OPENIMAGES_F8)
    with torch.no_grad():
        quantizer.quantize.get_parameter("embedding.weight").normal_(std=0.3)
    folder.mkdir(parents=True, exist_ok=True)
    export_quantizer(quantizer, folder)


def recipe_for(out: Path, precision: str) -> dict[str, object]:
    return {
        "source": {"path": str(out / "photographs")},
        "class_names": [f"class {number}" for number in range(NUM_CLASSES)],
        "views": {"size": 224, "draw": [{"kind": "centre", "fraction": 0.875}]},
        "teacher": {
            "kind": "open_clip_zero_shot",
            "architecture": "ViT-L-14-quickgelu",
            "pretrained": "random",
            "seed": 0,
            "templates": "simple",
        },
        "quantizer": {
            "checkpoint": str(out / "quantizer/quantizer.ckpt"),
            "config": str(out / "quantizer/config.yaml"),
        },
        "attack": {"preset": "released"},
        "compute": {"batch_size": 8, "precision": precision},
        "check": {"samples": 0, "allow_near_chance": True},
        "samples_per_shard": 8,
        "score_vqgan": "none",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    args = parser.parse_args()
    write_photographs(args.out / "photographs")
    write_quantizer(args.out / "quantizer")
    recipe = args.out / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(recipe_for(args.out, args.precision), sort_keys=False))
    dad = str(Path(sys.executable).with_name("dad"))
    dataset = args.out / "dad"
    started = time.perf_counter()
    subprocess.run([dad, "generate", str(recipe), "--out", str(dataset)], check=True)
    wall_s = time.perf_counter() - started
    peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    subprocess.run([dad, "verify", str(dataset)], check=True)
    subprocess.run(
        [dad, "inspect", str(dataset), "--grid", str(args.out / "pictures.png"), "--pictures", "4"], check=True
    )
    log = json.loads(next(iter(sorted(dataset.glob("runs/*/run.json")))).read_text())
    tars = sum(path.stat().st_size for path in dataset.glob("shards/*.tar"))
    result = {
        "what": "16 photographs, 224 px, ViT-L-14 + VQGAN f8 16384, preset released, weights random",
        "precision": args.precision,
        "wall_s": round(wall_s, 1),
        "models_s_per_image": round(log["stage_seconds"]["models"] / NUM_IMAGES, 2),
        "device": json.loads((dataset / "manifest.json").read_text())["recipe"]["compute"]["device"],
        "peak_host_memory_gib": round(peak_bytes / 2**30, 2),
        "tar_bytes_per_image": tars // NUM_IMAGES,
        "hardware": hardware(),
        "versions": versions("torch", "open_clip_torch"),
    }
    (args.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
