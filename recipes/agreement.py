"""How far students agree with the stored teacher, on the clean and on the adversarial images of a set.

    python recipes/agreement.py runs/cifar10/dad-train runs/cifar10/students/*-seed0/last.pt

`same class`: share of the records on which student and teacher name the same class. `KL`: mean of KL(t || s) in nats at
the temperature given (sets with top-k logits: one of those that they were made for).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Column, Table
from torch.utils.data import DataLoader, Subset

from dad_datasets.errors import UserError
from dad_trainer import Pairs, open_pairs
from dad_trainer.students import Student, load_student, normalise
from dad_trainer.teacher_targets import divergence, targets_from_samples

PARTS = ("clean", "adversarial")


def attacked_records(pairs: Pairs, count: int) -> list[int]:
    """Up to `count` records with an adversarial image, spread evenly over the set."""
    attacked = np.flatnonzero(pairs.attacked)
    places = np.linspace(0, len(attacked) - 1, min(count, len(attacked))).round().astype(int)
    chosen: list[int] = attacked[places].tolist()
    return chosen


@torch.no_grad()
def agreement(pairs: Pairs, student: Student, records: list[int], *, temperature: float) -> dict[str, float]:
    """Means over the records, by name: "same class, clean", "KL, adversarial" and so on."""
    sums = dict.fromkeys((f"{what}, {part}" for what in ("same class", "KL") for part in PARTS), 0.0)
    for batch in DataLoader(Subset(pairs, records), batch_size=100):
        logits = student.model(normalise(torch.cat([batch[part] for part in PARTS]), student.mean, student.std))
        first = batch["teacher_ids"][:, :, 0] if "teacher_ids" in batch else batch["teacher"].argmax(dim=2)
        targets = targets_from_samples(batch, temperature)
        for place, (part, answers) in enumerate(zip(PARTS, logits.chunk(2), strict=True)):
            sums[f"same class, {part}"] += float((answers.argmax(dim=1) == first[:, place]).sum())
            sums[f"KL, {part}"] += float(divergence(targets[place], answers, temperature).sum())
    return {name: total / len(records) for name, total in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", help="a finished set with images")
    parser.add_argument("checkpoints", type=Path, nargs="+", help="students, of dad train or timm")
    parser.add_argument("--records", type=int, default=2000, help="attacked records to look at, spread over the set")
    parser.add_argument("--temperature", type=float, default=1.0, help="divisor of the logits in the KL")
    given = parser.parse_args()
    pairs = open_pairs(given.shards, temperature=given.temperature)
    records = attacked_records(pairs, given.records)
    figures = [f"{what}, {part}" for what in ("same class", "KL") for part in PARTS]
    table = Table(Column("student", overflow="fold"), *figures)
    for path in given.checkpoints:
        found = agreement(pairs, load_student(path), records, temperature=given.temperature)
        shown = [f"{value:.1%}" if name.startswith("same") else f"{value:.3f}" for name, value in found.items()]
        table.add_row(f"{path.parent.name}/{path.name}", *shown)
    Console().print(table)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
