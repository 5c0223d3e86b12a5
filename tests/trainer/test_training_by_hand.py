"""A training run of five steps against the same training in plain torch: its weights, its table, its curves."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from mixing_by_hand import mix_one_by_one, mix_rows_one_by_one
from pixels_by_hand import MEAN, STD, centre_views, in_source_order, normalised, scores
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import write_images
from tiny_training import RawRecipe, checkpoint, train, training_recipe
from torch import Tensor, nn
from torch.nn import functional as F

from dad_datasets.settings import build_settings
from dad_trainer.augment import Augmentation, AugmentSettings, draw_mixing
from dad_trainer.reading import Pairs, open_pairs
from dad_trainer.training.order import SetOrder, epoch_order

STEPS, PER_EPOCH, N, CLASSES, SIZE = 5, 4, 6, 3, 16
SEED, LR, WARMUP_LR, WEIGHT_DECAY, CLIP, EMA = 3, 0.02, 0.004, 0.05, 1.5, 0.45
T, LAMBDA_CLEAN, LAMBDA_ADV, SMOOTHING = 3.0, 0.3, 0.6, 0.1
AUGMENT = {"flip": 0.5, "crop_padding": 2, "erasing": 0.5, "erasing_mode": "const", "mixup": 0.8, "cutmix": 1.0}


@dataclass(kw_only=True)
class ByHand:
    """What a run leaves."""

    network: nn.Module
    average: dict[str, Tensor]
    curves: list[dict[str, float]] = field(default_factory=list)
    """For each step: loss, top1, lr, norm of the gradient before clipping."""
    epochs: list[dict[str, float]] = field(default_factory=list)
    """Columns of the table."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step is trained on."""

    images: Tensor
    """The clean, then the adversarial ones."""
    labels: Tensor
    asked: Sequence[Tensor]
    """The teacher's distributions on the clean and on the adversarial images."""
    attacked: Tensor
    true: list[int]
    """Labels before smoothing and mixing."""


@dataclass(frozen=True, kw_only=True)
class Case:
    raw: RawRecipe
    pairs: Pairs
    pixels: Tensor
    labels: Tensor
    """Of validation."""


def initial_network() -> nn.Module:
    torch.manual_seed(11)
    network: nn.Module = timm.create_model("cifar_resnet20", num_classes=CLASSES)
    return network


@pytest.fixture(scope="module")
def case(make_set: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Case:
    root = tmp_path_factory.mktemp("by-hand")
    torch.save(initial_network().state_dict(), root / "initial.pt")
    images = write_images(root / "images")
    raw = training_recipe(make_set("full"))
    raw |= {
        "student": {"architecture": "cifar_resnet20", "checkpoint": str(root / "initial.pt"), "mean": MEAN, "std": STD},
        "loss": {
            "temperature": T,
            "lambda_clean": LAMBDA_CLEAN,
            "lambda_adv": LAMBDA_ADV,
            "label_smoothing": SMOOTHING,
        },
        "augment": AUGMENT,
        "epochs": None,
        "steps": STEPS,
        "optimiser": {"name": "sgd", "lr": LR, "weight_decay": WEIGHT_DECAY},
        "schedule": {"warmup_steps": 2, "warmup_lr": WARMUP_LR},
        "clip_norm": CLIP,
        "ema": {"decay": EMA},
        # A square of 16 of the 18 pixels; 20 of the 24 images.
        "validation": {"source": {"path": str(images)}, "fraction": 16 / 18, "limit": 20},
        "saving": {"log_every_steps": 1},
        "compute": {**raw["compute"], "channels_last": False},
        "seed": SEED,
    }
    pixels, labels = centre_views(in_source_order(images)[:20], side=16, size=SIZE)
    return Case(raw=raw, pairs=open_pairs(make_set("full")), pixels=normalised(pixels), labels=labels)


@pytest.fixture(scope="module")
def run(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    assert train(case.raw, out)[0]
    return out


@pytest.fixture(scope="module")
def by_hand(case: Case) -> ByHand:
    network = initial_network().train()
    found = ByHand(network=network, average={name: value.clone() for name, value in network.state_dict().items()})
    vectors = [parameter for parameter in network.parameters() if parameter.ndim == 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    groups = [{"params": vectors, "weight_decay": 0.0}, {"params": others, "weight_decay": WEIGHT_DECAY}]
    optimiser = torch.optim.SGD(groups, lr=LR, momentum=0.9, nesterov=True)
    for step, shown in enumerate(steps_of(case.pairs)):
        for group in optimiser.param_groups:
            group["lr"] = rate(step)
        optimiser.zero_grad()
        clean, adversarial = network(shown.images).split(N)
        kl = [
            F.kl_div((logits / T).log_softmax(1), asked, reduction="none").sum(1)
            for logits, asked in zip((clean, adversarial), shown.asked, strict=True)
        ]
        loss = -(shown.labels * clean.log_softmax(1)).sum(1).mean()
        loss = loss + LAMBDA_CLEAN * T**2 * kl[0].mean() + LAMBDA_ADV * T**2 * (kl[1] * shown.attacked).mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimiser.step()
        update_average(found.average, network, step)
        top1 = sum(int(row.argmax()) == int(label) for row, label in zip(clean, shown.true, strict=True)) / N
        found.curves.append({"loss": loss.item(), "top1": top1, "lr": rate(step), "grad_norm": norm.item()})
        if step + 1 in (PER_EPOCH, STEPS):
            found.epochs.append(epoch_row(found, case, step))
    return found


def rate(step: int) -> float:
    """Two steps of warm-up, then half a cosine over the three that remain."""
    if step < 2:
        return WARMUP_LR + step * (LR - WARMUP_LR) / 2
    return LR * (1 + math.cos(math.pi * (step - 2) / 3)) / 2


def update_average(average: dict[str, Tensor], network: nn.Module, step: int) -> None:
    """timm's warm-up: the first step's weights, then a decay of 1 - (1 + k)^(-2/3), up to the one that was given."""
    decay = min(1 - (1 + step) ** (-2 / 3), EMA)
    for name, value in network.state_dict().items():
        average[name] = decay * average[name] + (1 - decay) * value if value.is_floating_point() else value.clone()


def steps_of(pairs: Pairs) -> Iterator[Step]:
    settings = build_settings(AugmentSettings, AUGMENT, origin="augment")
    augmentation = Augmentation(settings, SEED, mean=MEAN, std=STD)
    for step in range(STEPS):
        epoch, place = divmod(step, PER_EPOCH)
        order = epoch_order([SetOrder(samples=pairs.samples, shards=pairs.shards)], seed=SEED, epoch=epoch)
        records = [pairs.read(int(record)) for record in order[place * N : (place + 1) * N, 1]]
        shown, rows = [], []
        for pair in records:
            assert pair.clean is not None
            assert pair.teacher_clean is not None
            canvases = [pair.clean, pair.clean if pair.adversarial is None else pair.adversarial]
            shown.append(augmentation(canvases, epoch=epoch, key=f"0/{pair.source_key}", view=pair.view))
            rows.append([pair.teacher_clean.values, (pair.teacher_adversarial or pair.teacher_clean).values])
        keys = [f"0/{pair.key}" for pair in records]
        mixing = draw_mixing(settings, seed=SEED, epoch=epoch, keys=keys, size=SIZE)
        assert mixing is not None
        pixels = normalised(torch.from_numpy(np.array(shown)).permute(1, 0, 4, 2, 3) / 255)
        images = torch.cat([torch.from_numpy(mix_one_by_one(part.numpy(), mixing)) for part in pixels])
        true = [pair.label for pair in records]
        hard = F.one_hot(torch.tensor(true), CLASSES) * (1 - SMOOTHING) + SMOOTHING / CLASSES
        logits = torch.from_numpy(np.array(rows, np.float32)).transpose(0, 1)
        labels, *asked = (
            torch.from_numpy(mix_rows_one_by_one(part.numpy(), mixing)) for part in (hard, *(logits / T).softmax(2))
        )
        attacked = torch.tensor([pair.adversarial is not None for pair in records])
        yield Step(images=images, labels=labels, asked=asked, attacked=attacked, true=true)


def epoch_row(found: ByHand, case: Case, step: int) -> dict[str, float]:
    epoch = step // PER_EPOCH
    curves = found.curves[epoch * PER_EPOCH : step + 1]
    row = {"epoch": epoch, "step": step + 1, "lr": rate(step)}
    row |= {f"train_{name}": float(np.mean([curve[name] for curve in curves])) for name in ("loss", "top1")}
    row["val_loss"], row["val_top1"] = scores(found.network, case.pixels, case.labels)
    averaged = initial_network()
    averaged.load_state_dict(found.average)
    row["val_ema_loss"], row["val_ema_top1"] = scores(averaged, case.pixels, case.labels)
    return row


def test_the_gradient_was_clipped_now_and_then(by_hand: ByHand) -> None:
    """Or the tests below would say nothing of it."""
    norms = [curve["grad_norm"] for curve in by_hand.curves]
    assert max(norms) > 1.2 * CLIP


def test_the_weights_and_the_running_statistics_are_those_by_hand(run: Path, by_hand: ByHand) -> None:
    saved = checkpoint(run)
    torch.testing.assert_close(dict(saved["state_dict"]), dict(by_hand.network.state_dict()), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(saved["state_dict_ema"]), by_hand.average, rtol=1e-4, atol=1e-5)


def test_the_table_of_epochs_is_that_by_hand(run: Path, by_hand: ByHand) -> None:
    rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader((run / "summary.csv").open())]
    assert len(rows) == len(by_hand.epochs) == 2
    for row, expected in zip(rows, by_hand.epochs, strict=True):
        assert row == pytest.approx(expected, rel=1e-3)
        assert row["lr"] == pytest.approx(expected["lr"], rel=1e-9)


def test_tensorboard_holds_every_step_and_epoch(run: Path, by_hand: ByHand) -> None:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    for name in ("loss", "top1", "lr", "grad_norm"):
        points = [(point.step, point.value) for point in events.Scalars(f"step/{name}")]
        assert [step for step, _ in points] == [1, 2, 3, 4, 5]
        assert [value for _, value in points] == pytest.approx([curve[name] for curve in by_hand.curves], rel=1e-3)
    for name in ("lr", "train_loss", "train_top1", "val_loss", "val_top1", "val_ema_loss", "val_ema_top1"):
        points = [(point.step, point.value) for point in events.Scalars(name)]
        assert [step for step, _ in points] == [4, 5]
        assert [value for _, value in points] == pytest.approx([row[name] for row in by_hand.epochs], rel=1e-3)
    assert len(events.Scalars("step/images_per_s")) == 5
