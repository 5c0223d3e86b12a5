"""How far sets of adversarial images lie from the clean ones, in the features of a network that had no part in them.

    pip install scipy
    python recipes/feature_distance.py runs/cifar10/dad-train --network runs/cifar10/students/ce-seed0/last.pt

A distance is between the network's features before the classifier, and is given in units of the mean distance between
two different clean images. `moved`: mean distance of an adversarial image from its own clean one. `W1, adversarial`:
the Wasserstein-1 distance between the adversarial images of half of the records and the clean images of the other half.
`W1, clean` is that between clean images and clean images: what is there without an attack, for a few images fill a
space of many dimensions badly. The network should be neither the attacked teacher nor a student of the sets.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Column, Table
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dad_datasets.errors import UserError
from dad_trainer import Pairs, open_pairs
from dad_trainer.students import Student, load_student, normalise


@torch.no_grad()
def features_of(pairs: Pairs, student: Student, count: int) -> tuple[Tensor, Tensor]:
    """[n, d] of the clean and of the adversarial images of n attacked records, spread evenly over the set.

    n is `count`, or the number of attacked records where that is smaller, less one where it would be odd.
    """
    attacked = np.flatnonzero(pairs.attacked)
    n = min(count, len(attacked)) // 2 * 2
    if n < 2:
        raise UserError(f"{pairs.url}: has {len(attacked)} adversarial images; two at least are needed")
    places = attacked[np.linspace(0, len(attacked) - 1, n).round().astype(int)]
    network: Any = student.model  # timm's surface, which nn.Module does not declare
    found = []
    for chosen in np.array_split(places, -(-n // 100)):
        records = [pairs.read(int(place), teacher=False) for place in chosen]
        canvases = np.stack(
            [canvas for each in records for canvas in (each.clean, each.adversarial) if canvas is not None]
        )
        pixels = normalise(torch.from_numpy(canvases).permute(0, 3, 1, 2), student.mean, student.std)
        maps = network.forward_features(pixels)
        found.append(network.forward_head(maps, pre_logits=True).double())
    features = torch.cat(found)
    return features[::2], features[1::2]


def wasserstein(a: Tensor, b: Tensor) -> float:
    """W1 between two clouds [n, d] of equally many points, each of mass 1/n: the mean length of the best matching."""
    lengths = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    return float(lengths[linear_sum_assignment(lengths)].mean())


def distances(clean: Tensor, adversarial: Tensor) -> dict[str, float]:
    """The figures of the table from features [n, d], n even; every second record is of the other half."""
    apart = torch.pdist(clean).mean()
    return {
        "moved": float((clean - adversarial).norm(dim=1).mean() / apart),
        "W1, adversarial": wasserstein(adversarial[::2], clean[1::2]) / float(apart),
        "W1, clean": wasserstein(clean[::2], clean[1::2]) / float(apart),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="+", help="finished sets with images")
    parser.add_argument("--network", type=Path, required=True, help="checkpoint, of dad train or timm")
    parser.add_argument("--records", type=int, default=2000, help="attacked records to look at, spread over the set")
    given = parser.parse_args()
    network = load_student(given.network)
    sets = [open_pairs(path) for path in given.shards]
    figures = ("moved", "W1, adversarial", "W1, clean")
    table = Table(Column("set", overflow="fold"), *figures)
    for pairs in sets:
        row = distances(*features_of(pairs, network, given.records))
        table.add_row(pairs.url, *(f"{row[figure]:.3f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
