"""Distil a student from finished shards in a plain PyTorch loop: python recipes/own_loop.py SHARDS

SHARDS is a dataset of `dad generate` with full logits, such as runs/demo/dad after `make demo`: there the loss falls to
about 1 in one epoch. Only `open_pairs` is needed: its samples are dicts of tensors, for any loader, model and loss.
"""

from __future__ import annotations

import sys

import timm
import torch
from torch.utils.data import DataLoader

from dad_trainer import open_pairs
from dad_trainer.losses import dad, one_hot
from dad_trainer.teacher_targets import targets_from_logits


def train(shards: str, *, architecture: str = "resnet10t", epochs: int = 1, temperature: float = 4.0) -> list[float]:
    """The loss of every step."""
    pairs = open_pairs(shards)
    student = timm.create_model(architecture, num_classes=pairs.num_classes)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    loader = DataLoader(pairs, batch_size=64, shuffle=True, num_workers=2)
    losses: list[float] = []
    for batch in (batch for _ in range(epochs) for batch in loader):
        pixels = torch.cat([batch["clean"], batch["adversarial"]]).float() / 127.5 - 1
        clean_logits, adversarial_logits = student(pixels).chunk(2)
        clean_teacher, adversarial_teacher = batch["teacher"].unbind(1)
        loss = dad(
            clean_logits,
            adversarial_logits,
            one_hot(batch["label"], pairs.num_classes),
            targets_from_logits(clean_teacher, temperature),
            targets_from_logits(adversarial_teacher, temperature),
            temperature=temperature,
            lambda_clean=0.5,
            lambda_adv=0.5,
            attacked=batch["attacked"],
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        print(f"step {len(losses)}: {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    train(sys.argv[1])
