"""What a student is fed, by Pillow and plain torch, and what it scores on that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from dad_datasets.sources import SourceSettings, open_source

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
"""Of the students that are followed by hand: neither timm's nor 0 and 1."""


def normalised(pixels: Tensor) -> Tensor:
    """[..., 3, h, w] in [0, 1] by MEAN and STD."""
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def in_source_order(root: Path) -> list[Path]:
    """The files of an image folder, shuffled as such a source is."""
    source = open_source(SourceSettings(path=str(root)))
    return [root / sample.source_key for unit in source.plan(1000) for sample in source.read(unit)]


def centre_views(files: Sequence[Path], *, side: int, size: int) -> tuple[Tensor, Tensor]:
    """The images, [n, 3, size, size] in [0, 1], of the squares of `side` pixels in the middle; and their labels."""
    classes = sorted({path.parent.name for path in files})
    images = []
    for path in files:
        image = Image.open(path).convert("RGB")
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        images.append(np.asarray(square.resize((size, size), Image.Resampling.BICUBIC)))
    labels = torch.tensor([classes.index(path.parent.name) for path in files])
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255, labels


@torch.no_grad()
def scores(network: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy in nats, and the share of the images that are classified rightly."""
    was_training = network.training
    logits = network.eval()(pixels)
    network.train(was_training)
    right = sum(int(row.argmax()) == int(label) for row, label in zip(logits, labels, strict=True))
    return float(F.cross_entropy(logits.double(), labels)), right / len(labels)
