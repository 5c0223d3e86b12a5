"""Train the classifier that labels and attacks in recipes/cifar10, on CIFAR-10's training images only.

    python recipes/cifar10/train_teacher.py --data DIR --out runs/cifar10/teacher.pt

DIR holds CIFAR-10 as on the Hugging Face hub (train-*.parquet: `img`, `label`). Ten epochs of a small timm ResNet
at 64 px in bfloat16 autocast, 20 to 40 minutes on two cores; it reached 88.3 % on the test images, which are looked at
once, in the end. The checkpoint loads with `timm.create_model(checkpoint_path=...)`.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import timm
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dad_pipeline.teachers.resize import resize

MODEL, INPUT_SIZE, PADDING = "resnet10t", 64, 4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_split(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """All images uint8 [n, 3, 32, 32] and labels int64 [n] of `train` or `test`."""
    files = sorted(folder.glob(f"{split}-*.parquet"))
    if not files:
        raise SystemExit(f"error: no {split}-*.parquet in {folder}")
    images, labels = [], []
    for file in files:
        table = pq.read_table(file)
        encoded = (cell["bytes"].as_py() for cell in table["img"])
        images += [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in encoded]
        labels += table["label"].to_pylist()
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def to_network(images: Tensor) -> Tensor:
    """uint8 [b, 3, 32, 32] to what the network sees: resized, normalised, channels last."""
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    pixels = resize(images.float() / 255, (INPUT_SIZE, INPUT_SIZE), "bicubic")
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image shifted by up to PADDING pixels over black, and mirrored half of the time."""
    count, _, height, width = images.shape
    padded = F.pad(images, (PADDING,) * 4)
    top, left = torch.randint(0, 2 * PADDING + 1, (2, count), generator=generator)
    rows = top[:, None] + torch.arange(height)
    columns = left[:, None] + torch.arange(width)
    mirrored = torch.rand(count, generator=generator) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@torch.no_grad()
def accuracy(model: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    hits = 0
    for start in range(0, len(images), 500):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(to_network(images[start : start + 500]))
        hits += int((logits.argmax(1) == labels[start : start + 500]).sum())
    return hits / len(images)


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    images, labels = load_split(args.data, "train")
    model = timm.create_model(MODEL, num_classes=10).to(memory_format=torch.channels_last)
    steps = len(images) // args.batch_size
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps * args.epochs, pct_start=0.2)
    for epoch in range(args.epochs):
        model.train()
        started, total = time.perf_counter(), 0.0
        order = torch.randperm(len(images), generator=generator)
        for step in range(steps):
            chosen = order[step * args.batch_size : (step + 1) * args.batch_size]
            batch = to_network(crop_and_flip(images[chosen], generator))
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(batch), labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        rate = steps * args.batch_size / (time.perf_counter() - started)
        print(f"epoch {epoch + 1}/{args.epochs}: loss {total / steps:.3f}, {rate:.0f} images/s", flush=True)
        save(model, args.out)
    print(f"test accuracy {accuracy(model, *load_split(args.data, 'test')):.4f}")


def save(model: torch.nn.Module, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    torch.save({"arch": MODEL, "state_dict": model.state_dict()}, temporary)
    temporary.replace(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train-*.parquet and test-*.parquet")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())
