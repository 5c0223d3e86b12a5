"""Distil a student from finished shards in a plain PyTorch loop.

    python recipes/own_loop.py runs/demo/dad

The dataset must hold full logits. `open_pairs` gives dicts of tensors, for any loader, model and loss.
"""

import sys

import timm
import torch
from torch.utils.data import DataLoader

from dad_trainer import open_pairs
from dad_trainer.losses import dad, one_hot
from dad_trainer.teacher_targets import targets_from_logits

pairs = open_pairs(sys.argv[1])
student = timm.create_model("resnet10t", num_classes=pairs.num_classes)
optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
for step, batch in enumerate(DataLoader(pairs, batch_size=64, shuffle=True)):
    pixels = torch.cat([batch["clean"], batch["adversarial"]]).float() / 127.5 - 1
    clean, adversarial = student(pixels).chunk(2)
    on_clean, on_adversarial = (targets_from_logits(t, temperature=4.0) for t in batch["teacher"].unbind(1))
    labels, attacked = one_hot(batch["label"], pairs.num_classes), batch["attacked"]
    weights = {"temperature": 4.0, "lambda_clean": 0.5, "lambda_adv": 0.5}
    loss = dad(clean, adversarial, labels, on_clean, on_adversarial, attacked=attacked, **weights)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step}: loss {loss.item():.3f}")
