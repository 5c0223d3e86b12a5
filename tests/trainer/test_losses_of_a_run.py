"""What a run minimises: the loss of its first step, on all its samples, from the tars, the images and a formula."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from pairs_by_hand import images_and_rows, rows_of
from pixels_by_hand import MEAN, STD, normalised
from tiny_training import RawRecipe, train, training_recipe
from torch import Tensor
from torch.nn import functional as F

from dad_trainer.losses import LossName
from dad_trainer.training.streams import ImagesName

T = 3.0
WEIGHTS = {"lambda_clean": 0.3, "lambda_adv": 0.9, "ce_weight": 0.6, "kl_weight": 2.5}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(11)
    made: torch.nn.Module = timm.create_model("cifar_resnet20", num_classes=3, norm="group")
    return made


@pytest.fixture(scope="module")
def raw(
    make_set: Callable[[str], Path], network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> RawRecipe:
    """One step over the first views, of which each of the 24 images has one: their order is of no account."""
    initial = tmp_path_factory.mktemp("initial") / "initial.pt"
    torch.save(network.state_dict(), initial)
    recipe = training_recipe(make_set("full"))
    recipe["student"] |= {"checkpoint": str(initial), "mean": MEAN, "std": STD}
    recipe["shards"][0]["where"] = "view == 0"
    return recipe | {"augment": {}, "schedule": {}, "epochs": None, "steps": 1}


@pytest.fixture(scope="module")
def records(make_set: Callable[[str], Path], clean_folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels, [part, record, 3, h, w], the teacher's logits, [part, record, c], and labels, of the first views."""
    rows = rows_of(make_set("full"))
    first = {key: of for key, of in images_and_rows(make_set("full"), clean_folder).items() if rows[key]["view"] == 0}
    pixels = torch.from_numpy(np.stack([images for images, _ in first.values()], axis=1)).permute(0, 1, 4, 2, 3) / 255
    logits = torch.from_numpy(np.stack([row for _, row in first.values()], axis=1)).float()
    return pixels, logits, torch.tensor([rows[key]["label"] for key in first])


@pytest.mark.parametrize(
    ("name", "images", "parts"),
    [
        ("ce", "clean", [0]),
        ("ce", "adversarial", [1]),
        ("kd", "clean", [0]),
        ("kd", "adversarial", [1]),
        ("kd", "unpaired", [0, 1]),
        ("dad", "pairs", [0, 1]),
        ("dad_concat", "unpaired", [0, 1]),
        ("dad_concat", "adversarial", [1]),
    ],
)
def test_a_run_begins_at_the_loss_by_hand(
    raw: RawRecipe,
    network: torch.nn.Module,
    records: tuple[Tensor, Tensor, Tensor],
    tmp_path: Path,
    name: LossName,
    images: ImagesName,
    parts: list[int],
) -> None:
    loss = {"name": name, "temperature": T, **WEIGHTS}
    _, seen = train({**raw, "loss": loss, "images": images, "batch_size": 24 * len(parts)}, tmp_path)
    samples = 24 if name == "dad" else 24 * len(parts)
    assert f"{samples} samples and 1 steps an epoch" in seen
    pixels, logits, labels = records
    with torch.no_grad():
        answers = torch.stack([network(part) for part in normalised(pixels)])
    ce = torch.stack([F.cross_entropy(answer, labels) for answer in answers])
    kl = torch.stack(
        [
            F.kl_div((answer / T).log_softmax(1), (row / T).softmax(1), reduction="batchmean")
            for answer, row in zip(answers, logits, strict=True)
        ]
    )
    expected = {
        "ce": ce[parts].mean(),
        "kd": ce[parts].mean() + 0.3 * T**2 * kl[parts].mean(),
        "dad": ce[0] + 0.3 * T**2 * kl[0] + 0.9 * T**2 * kl[1],
        "dad_concat": 0.6 * ce[parts].mean() + 2.5 * kl[parts].mean(),
    }[name]
    (row,) = csv.DictReader((tmp_path / "summary.csv").open())
    assert float(row["train_loss"]) == pytest.approx(expected.item(), rel=1e-5)
    right = torch.cat([answers[part].argmax(1) == labels for part in ([0] if name == "dad" else parts)])
    assert float(row["train_top1"]) == pytest.approx(right.float().mean().item())
