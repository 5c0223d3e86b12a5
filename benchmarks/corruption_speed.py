"""Images a second of each corruption, ours against the imagecorruptions fork, on one thread.

    python benchmarks/corruption_speed.py --out benchmarks/results/corruption_speed.json

At severity 3, on crops of a photograph: 500 of 32 px with CIFAR-10-C's strengths, 32 of 224 px with ImageNet-C's. The
fork works an image at a time and knows ImageNet-C's strengths alone. The best of three rounds after one unmeasured, in
CPU time, so that other programs count little; with --device cuda ours runs there, in wall time, transfers included.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import imagecorruptions
import numpy as np
import skimage.data
import torch
from machine import cpu_model, gpu_model
from rich.console import Console
from rich.table import Table
from torch import Tensor

from dad_datasets.corruptions import COMMON, EXTRA, CorruptionName, StrengthsName, corrupt
from dad_datasets.views import Canvas

SEVERITY = 3
NUM_ROUNDS = 3
NUM_FORK_IMAGES = 8  # it works an image at a time, so that more would only take longer
SIZES: tuple[tuple[int, int, StrengthsName], ...] = ((32, 500, "cifar"), (224, 32, "imagenet"))


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One line of the table."""

    corruption: str
    size: int
    batch: int
    strengths: str
    ours_images_per_s: float
    fork_images_per_s: float


def crops(size: int, count: int) -> Canvas:
    """uint8 [count, size, size, 3]: squares of the astronaut, from all over it."""
    photograph = skimage.data.astronaut()
    rng = np.random.default_rng(0)
    corners = rng.integers(0, photograph.shape[0] - size, (count, 2))
    return np.stack([photograph[top : top + size, left : left + size] for top, left in corners])


def images_per_s(run: Callable[[], object], count: int, clock: Callable[[], float]) -> float:
    """The best of the rounds after the first."""
    times = []
    for _ in range(NUM_ROUNDS + 1):
        start = clock()
        run()
        times.append(clock() - start)
    return round(count / min(times[1:]), 1)


def ours(images: Tensor, name: CorruptionName, strengths: StrengthsName, device: str) -> object:
    keys = [str(number) for number in range(len(images))]
    return corrupt(images.to(device), name, SEVERITY, strengths=strengths, seed=0, keys=keys).cpu()


def fork(images: Canvas, name: str) -> object:
    return [imagecorruptions.corrupt(image, SEVERITY, name) for image in images]


def measure(device: str) -> list[Speed]:
    clock = time.process_time if device == "cpu" else time.perf_counter
    rows = []
    for size, batch, strengths in SIZES:
        stack = crops(size, batch)
        images = torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()
        few = stack[:NUM_FORK_IMAGES]
        for name in COMMON + EXTRA:
            speeds = {
                "ours_images_per_s": images_per_s(partial(ours, images, name, strengths, device), batch, clock),
                "fork_images_per_s": images_per_s(partial(fork, few, name), len(few), time.process_time),
            }
            rows.append(Speed(corruption=name, size=size, batch=batch, strengths=strengths, **speeds))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="where ours runs (default: cpu)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = measure(arguments.device)
    table = Table("corruption", "px", "ours, images/s", "fork, images/s", "ratio")
    for row in rows:
        ours, fork = row.ours_images_per_s, row.fork_images_per_s
        table.add_row(row.corruption, str(row.size), f"{ours:,.0f}", f"{fork:,.0f}", f"{ours / fork:.1f}")
    Console().print(table)
    if arguments.out is not None:
        cpu = f"{cpu_model()}, 1 thread"
        result = {
            "hardware": cpu if arguments.device == "cpu" else f"{gpu_model()}; the fork on {cpu}",
            "torch": torch.__version__,
            "severity": SEVERITY,
            "rows": [asdict(row) for row in rows],
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
