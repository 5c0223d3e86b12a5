"""What runs on a GPU stays there: every tensor of an attack, of a training step and of a corruption on one device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from other_device import DEVICE, VALUELESS, forget_constants, move, without_autocast
from tiny_run import RawRecipe, tiny_recipe, write_images, write_quantizer
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError

from dad_datasets.corruptions import COMMON, EXTRA, CorruptionName, corrupt
from dad_pipeline.adversarial_views import attack_pixels
from dad_pipeline.models import load_models
from dad_pipeline.quantizer import MAX_DISTANCES
from dad_pipeline.recipe import Recipe
from dad_trainer.augment import Mixing
from dad_trainer.losses import LossSettings
from dad_trainer.students import build_student
from dad_trainer.students.settings import StudentSettings
from dad_trainer.teacher_targets import TeacherTargets
from dad_trainer.training.batch import Batch
from dad_trainer.training.step import Arithmetic, BatchLoss, Stepper, StepSums

L2 = {"norm": "l2", "epsilon": 0.5, "step_size": 0.3, "steps": 2}

ATTACKS: dict[str, dict[str, Any]] = {
    "released": {"preset": "released"},
    "dat": {"preset": "dat"},
    "strong": {"preset": "strong"},
    "strong, l2": {"preset": "strong", **L2},
    "strong, straight_through": {"preset": "strong", "gradient": "straight_through"},
    "strong, margin": {"preset": "strong", "objective": "margin"},
    "noise": {"preset": "noise", **L2},
    "vqgan": {"preset": "vqgan"},
}

HAVE_VALUES_TO_LOOK_AT = {
    "shot_noise",
    "glass_blur",
    "motion_blur",
    "snow",
    "frost",
    "jpeg_compression",
    "spatter",
}
"""Corruptions that go through NumPy or ask for a value, which tensors without values have not."""


@pytest.fixture(scope="module", autouse=True)
def _constants_of_their_own() -> Iterator[None]:
    forget_constants()
    yield
    forget_constants()


def test_the_stand_in_refuses_to_mix_devices() -> None:
    with VALUELESS, pytest.raises(FakeTensorDeviceMismatchError, match="at least two devices, lazy:0 and cpu"):
        torch.ones(2, device=DEVICE) + torch.ones(2)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawRecipe:
    base = tmp_path_factory.mktemp("set")
    return tiny_recipe(write_images(base / "tiny"), write_quantizer(base / "quantizer"))


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_stays_on_its_device(raw: RawRecipe, attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_autocast(monkeypatch)
    monkeypatch.setitem(MAX_DISTANCES, DEVICE.type, 1024)  # the search in several parts
    recipe = Recipe.model_validate({**raw, "attack": ATTACKS[attack]})
    models = load_models(recipe, None)
    with VALUELESS:
        for network in models.networks():
            move(network)
        labels = torch.zeros(2, dtype=torch.int64, device=DEVICE)
        result = attack_pixels(
            replace(models, device=DEVICE),
            recipe,
            torch.rand(2, 3, 16, 16, device=DEVICE),
            labels,
            start=torch.rand(2, 3, 16, 16, device=DEVICE),
            directions=torch.rand(recipe.attack.steps, 2, 3, 16, 16, device=DEVICE) if attack == "noise" else None,
            clean_logits=torch.rand(2, models.teacher.num_classes, device=DEVICE),
            targets=labels if recipe.attack.target != "none" else None,
        )
        assert result.pixels.device == result.codes.device == result.finite.device == DEVICE
        assert result.codes_changed().device == DEVICE


def batch_of(samples: int, *, parts: int, top_k: bool) -> Batch:
    """As a loader makes it, on the CPU."""
    ids = torch.zeros(samples, 3, dtype=torch.int64) if top_k else None
    targets = TeacherTargets(
        probabilities=torch.rand(samples, 3 if top_k else 10), ids=ids, rest=torch.rand(samples) if top_k else None
    )
    mixing = Mixing(
        partner=torch.zeros(samples, dtype=torch.int64),
        lam=torch.rand(samples),
        boxes=torch.zeros(samples, 4, dtype=torch.int64),
        cut=torch.zeros(samples, dtype=torch.bool),
    )
    return Batch(
        images=torch.zeros(samples * parts, 3, 32, 32, dtype=torch.uint8),
        labels=torch.zeros(samples, dtype=torch.int64),
        attacked=torch.ones(samples, dtype=torch.bool),
        teacher=(targets,) * parts,
        mixing=mixing,
    )


@pytest.mark.parametrize("top_k", [False, True])
@pytest.mark.parametrize("loss", ["ce", "kd", "dad", "dad_concat"])
def test_a_training_step_stays_on_its_device(loss: str, top_k: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    without_autocast(monkeypatch)
    student = build_student(StudentSettings(architecture="cifar_resnet20"), num_classes=10)
    with VALUELESS:
        move(student.model)
        batch = batch_of(4, parts=2 if loss == "dad" else 1, top_k=top_k).to(DEVICE)
        stepper = Stepper(
            student=student.model,
            optimiser=torch.optim.SGD(student.model.parameters(), lr=0.1, momentum=0.9),
            scaler=torch.amp.GradScaler("cpu", enabled=False),
            loss=BatchLoss(
                settings=LossSettings.model_validate({"name": loss}),
                num_classes=10,
                mean=student.mean,
                std=student.std,
                arithmetic=Arithmetic(device=DEVICE, precision="float32", channels_last=True),
            ),
            clip_norm=1.0,
            seed=0,
            rank=0,
        )
        sums, norm = stepper(0, [batch, batch])
        assert StepSums.zero(DEVICE).plus(sums).values.device == norm.device == DEVICE


@pytest.mark.parametrize(("size", "strengths"), [(32, "cifar"), (224, "imagenet")])
@pytest.mark.parametrize("name", [name for name in COMMON + EXTRA if name not in HAVE_VALUES_TO_LOOK_AT])
def test_a_corruption_stays_on_its_device(name: CorruptionName, size: int, strengths: Any) -> None:
    with VALUELESS:
        images = torch.zeros(2, 3, size, size, dtype=torch.uint8, device=DEVICE)
        corrupted = corrupt(images, name, 3, strengths=strengths, seed=0, keys=["a", "b"])
        assert corrupted.device == DEVICE
        assert corrupted.shape == images.shape
