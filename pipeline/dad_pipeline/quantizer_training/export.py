"""What a training run leaves: the quantizer in the published layout and in ours, its figures, and a picture."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from PIL import Image

from dad_datasets.folder import LocalFolder
from dad_pipeline.checkpoint_file import weights_sha256
from dad_pipeline.quantizer import Quantizer, QuantizerArchitecture
from dad_pipeline.quantizer_checkpoint import save_quantizer
from dad_pipeline.quantizer_training.figures import QuantizerFigures
from dad_pipeline.quantizer_training.images import ImageSet

CHECKPOINT_NAME = "quantizer.ckpt"
CONFIG_NAME = "config.yaml"
SUMMARY_NAME = "summary.json"
PICTURE_NAME = "reconstructions.png"
TAMING_TARGETS = {"vq": "taming.models.vqgan.VQModel", "gumbel": "taming.models.vqgan.GumbelVQ"}


def export_quantizer(quantizer: Quantizer, folder: Path) -> None:
    """Write `quantizer` to `folder` as taming publishes it (checkpoint + YAML), and as safetensors + JSON."""
    weights = {name: value.detach().cpu().clone() for name, value in quantizer.state_dict().items()}
    target = LocalFolder(folder)
    with target.publish(CHECKPOINT_NAME) as stream:
        torch.save({"state_dict": weights}, stream)
    with target.publish(CONFIG_NAME) as stream:
        stream.write(yaml.safe_dump({"model": taming_model(quantizer.architecture)}, sort_keys=False).encode())
    save_quantizer(quantizer, folder)


def taming_model(architecture: QuantizerArchitecture) -> dict[str, object]:
    """The `model` section of taming's YAML file."""
    fields = architecture.model_dump(mode="json")
    kind, n_embed, embed_dim = (fields.pop(name) for name in ("kind", "n_embed", "embed_dim"))
    ddconfig = {"double_z": False, "in_channels": 3, "out_ch": 3, **fields}
    return {
        "target": TAMING_TARGETS[kind],
        "params": {"embed_dim": embed_dim, "n_embed": n_embed, "ddconfig": ddconfig},
    }


def write_summary(quantizer: Quantizer, figures: QuantizerFigures, *, steps: int, folder: Path) -> None:
    """Write the figures, the number of steps and the hash of the exported weights to `summary.json`."""
    summary = {"steps": steps, "weights_sha256": weights_sha256(quantizer), **asdict(figures)}
    (folder / SUMMARY_NAME).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def write_picture(
    quantizer: Quantizer, images: ImageSet, *, device: torch.device, folder: Path, count: int = 12
) -> None:
    """A strip of `count` originals above their reconstructions; small images are magnified to about 128 pixels."""
    originals = images.pixels[:count]
    decoded = quantizer.decode(quantizer.encode(originals.to(device).float() / 255))
    rows = torch.stack([originals, (decoded * 255).round().to(torch.uint8).cpu()])
    _, number, channels, height, width = rows.shape
    strip = rows.permute(0, 3, 1, 4, 2).reshape(2 * height, number * width, channels)
    zoom = max(1, 128 // width)
    picture = Image.fromarray(strip.numpy())
    picture.resize((zoom * picture.width, zoom * picture.height), Image.Resampling.NEAREST).save(folder / PICTURE_NAME)
