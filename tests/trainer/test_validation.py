"""Validation: which images, what they score, when, and which weights are kept as the best."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pixels_by_hand import MEAN, STD, centre_views, in_source_order, normalised, scores
from tiny_run import write_images
from tiny_training import RawRecipe, checkpoint, train, training_recipe
from torch import nn

from dad_datasets.benchmarks import StudentClasses
from dad_datasets.errors import UserError
from dad_datasets.settings import build_settings
from dad_trainer.training.recipe import ValidationSettings
from dad_trainer.training.step import Arithmetic
from dad_trainer.training.validation import LabelledImages, load_validation, score


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 of 20 x 18 pixels, in three classes."""
    return write_images(tmp_path_factory.mktemp("images") / "validation")


@pytest.fixture(scope="module")
def raw(make_set: Callable[[str], Path], images: Path) -> RawRecipe:
    recipe = training_recipe(make_set("full"))
    recipe["student"] |= {"mean": MEAN, "std": STD}
    return recipe | {"validation": {"source": {"path": str(images)}}}


def rows_of(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "summary.csv").open()))


@pytest.mark.parametrize(
    ("settings", "side", "count"),
    [({}, 18, 24), ({"limit": 5}, 18, 5), ({"fraction": 0.5}, 9, 24), ({"fraction": 16 / 18, "limit": 1}, 16, 1)],
)
def test_the_images_are_the_first_centre_views(images: Path, settings: dict[str, Any], side: int, count: int) -> None:
    given = build_settings(ValidationSettings, {"source": {"path": str(images)}, **settings}, origin="validation")
    found = load_validation(given, size=16, student=StudentClasses(count=3))
    pixels, labels = centre_views(in_source_order(images)[:count], side=side, size=16)
    assert torch.equal(found.images, (255 * pixels).round().to(torch.uint8))
    assert torch.equal(found.labels, labels)


def test_images_whose_labels_mean_other_classes_are_refused(images: Path, tmp_path: Path) -> None:
    """Without the first folder, every other class would have the number of the one before."""
    for name in ("class1", "class2"):
        shutil.copytree(images / name, tmp_path / name)
    given = build_settings(ValidationSettings, {"source": {"path": str(tmp_path)}}, origin="validation")
    student = StudentClasses(count=3, names=("class0", "class1", "class2"))
    with pytest.raises(UserError, match=r"^validation\.source .*: class 0 is class1 here and class0 for the student"):
        load_validation(given, size=16, student=student)


@pytest.mark.parametrize("training", [True, False])
def test_scores_are_counted_with_the_running_statistics_and_the_mode_is_kept(training: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 16, 4)).train(training)
    network[0].get_buffer("running_mean").uniform_(-1, 1)
    network[0].get_buffer("running_var").uniform_(0.5, 2)
    data = LabelledImages(
        images=torch.randint(0, 256, (23, 3, 4, 4), dtype=torch.uint8), labels=torch.randint(0, 4, (23,))
    )
    arithmetic = Arithmetic(device=torch.device("cpu"), precision="float32", channels_last=True)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = score(network, data, mean=MEAN, std=STD, arithmetic=arithmetic, batch_size=7)
    assert network.training == network[0].training == training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    expected = scores(network, normalised(data.images / 255), data.labels)
    assert found == pytest.approx(expected, rel=1e-6)
    assert 0 < expected[1] < 0.5


def test_it_is_scored_every_so_many_epochs_and_in_the_end(raw: RawRecipe, tmp_path: Path) -> None:
    train(raw, tmp_path, "validation.every_epochs=2", "epochs=5", "loss.name=ce")
    assert [bool(row["val_top1"]) for row in rows_of(tmp_path)] == [False, True, False, True, True]


def test_the_best_weights_are_kept(raw: RawRecipe, images: Path, tmp_path: Path) -> None:
    train(raw, tmp_path, "saving.every_epochs=1", "epochs=4", "optimiser.lr=0.1")
    pixels, labels = centre_views(in_source_order(images), side=18, size=16)
    network = timm.create_model("cifar_resnet20", num_classes=3, norm="group")
    top1s = []
    for epoch, row in enumerate(rows_of(tmp_path), start=1):
        kept = checkpoint(tmp_path, f"epoch-{epoch:04d}.pt")
        assert kept["step"] == 4 * epoch
        network.load_state_dict(kept["state_dict"])
        loss, top1 = scores(network, normalised(pixels), labels)
        assert float(row["val_loss"]) == pytest.approx(loss, rel=1e-4)
        assert float(row["val_top1"]) == pytest.approx(top1)
        top1s.append(top1)
    assert len(set(top1s)) > 1, top1s
    best = checkpoint(tmp_path, "best.pt")
    assert best["best"] == pytest.approx(max(top1s))
    assert best["step"] == 4 * (1 + top1s.index(max(top1s)))


@pytest.mark.parametrize(("ema", "best_epoch"), [({"decay": 0.5}, 3), (None, 2)])
def test_the_averaged_weights_choose_the_best_where_there_are_any(
    raw: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: dict[str, float] | None, best_epoch: int
) -> None:
    # By epoch: of the weights themselves, of the averaged ones. Equal scores leave the earlier ones in place.
    scripted = [(0.2, 0.1), (0.7, 0.3), (0.5, 0.4), (0.6, 0.4)]
    answers = iter([top1 for pair in scripted for top1 in (pair if ema else pair[:1])])
    monkeypatch.setattr("dad_trainer.training.loop.score", lambda *_, **__: (1.0, next(answers)))
    train({**raw, "ema": ema}, tmp_path, "epochs=4", "loss.name=ce", "batch_size=6")
    best = checkpoint(tmp_path, "best.pt")
    assert best["step"] == 4 * best_epoch
    assert best["best"] == pytest.approx(0.4 if ema else 0.7)
