"""From a batch to its loss by hand, in numpy's float64: one forward pass, one mixing for all, every weight in place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from mixing_by_hand import mix_one_by_one, mix_rows_one_by_one
from pixels_by_hand import MEAN, STD, normalised
from torch import Tensor, nn

from dad_trainer.augment import AugmentSettings, Mixing, draw_mixing
from dad_trainer.live_teacher import LiveTeacher
from dad_trainer.losses import LossName, LossSettings
from dad_trainer.teacher_targets import TeacherTargets
from dad_trainer.training.batch import Batch
from dad_trainer.training.step import Arithmetic, BatchLoss

N, CLASSES, SIZE = 6, 5, 8
LABELS = torch.tensor([1, 4, 0, 3, 2, 2])
ATTACKED = torch.tensor([True, True, False, True, True, True])
EPSILON = 1e-5

Array = npt.NDArray[np.float64]

MIXINGS: dict[str, dict[str, Any]] = {"plain": {}, "mixup": {"mixup": 0.8}, "cutmix": {"cutmix": 1.0}}
UNEQUAL = {"temperature": 3.0, "lambda_clean": 0.3, "lambda_adv": 0.9, "ce_weight": 0.6, "kl_weight": 2.5}


class LinearTeacher:
    """A live teacher whose logits are a linear map of the pixels."""

    num_classes = CLASSES

    def __init__(self) -> None:
        self.weight = torch.randn(CLASSES, 3 * SIZE**2, generator=torch.Generator().manual_seed(5)) / 4

    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1) @ self.weight.T


def student() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(3, eps=EPSILON), nn.Flatten(), nn.Linear(3 * SIZE**2, CLASSES))
    nn.init.uniform_(network[0].get_parameter("weight"), 0.5, 2.0)
    return network


def student_by_hand(network: nn.Sequential, pixels: Array) -> Array:
    """In training mode: BatchNorm by the statistics of all images that are given."""
    scale, shift, weight, bias = (tensor.detach().double().numpy() for tensor in network.parameters())
    mean, variance = pixels.mean(axis=(0, 2, 3), keepdims=True), pixels.var(axis=(0, 2, 3), keepdims=True)
    normed = (pixels - mean) / np.sqrt(variance + EPSILON) * scale[:, None, None] + shift[:, None, None]
    return np.asarray(normed.reshape(len(pixels), -1) @ weight.T + bias)


def log_softmax(z: Array) -> Array:
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))


def batch_of(loss: LossName, mixing: Mixing | None, temperature: float) -> tuple[Batch, Array]:
    """A batch, and the teacher's logits on each part of it."""
    parts = 2 if loss == "dad" else 1
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (parts * N, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    images[N:] //= 3  # darker: other statistics
    logits = 4 * torch.randn(parts, N, CLASSES, generator=generator)
    teacher = tuple(TeacherTargets(probabilities=(part / temperature).softmax(dim=1)) for part in logits)
    batch = Batch(images=images, labels=LABELS, attacked=ATTACKED, teacher=teacher, mixing=mixing)
    return batch, logits.double().numpy()


def loss_of(settings: LossSettings, teacher: LiveTeacher | None = None) -> BatchLoss:
    arithmetic = Arithmetic(device=torch.device("cpu"), precision="float32", channels_last=True)
    return BatchLoss(
        settings=settings, num_classes=CLASSES, mean=MEAN, std=STD, arithmetic=arithmetic, live_teacher=teacher
    )


def by_hand(settings: LossSettings, network: nn.Sequential, batch: Batch, teacher: Array) -> tuple[float, int]:
    """The loss, and how many clean images are classified rightly; `teacher` are its logits on each part."""
    temperature, smoothing = settings.temperature, settings.label_smoothing
    pixels = batch.images.double().numpy() / 255
    pixels = (pixels - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    labels = np.full((N, CLASSES), smoothing / CLASSES)
    labels[range(N), LABELS] += 1 - smoothing
    asked = [np.exp(log_softmax(logits / temperature)) for logits in teacher]
    if batch.mixing is not None:
        pixels = np.concatenate([mix_one_by_one(part, batch.mixing) for part in np.split(pixels, len(pixels) // N)])
        labels = mix_rows_one_by_one(labels, batch.mixing)
        asked = [mix_rows_one_by_one(rows, batch.mixing) for rows in asked]
    answers = np.split(student_by_hand(network, pixels), batch.parts)
    ce = -(labels * log_softmax(answers[0])).sum(axis=1).mean()
    kl = [(p * (np.log(p) - log_softmax(z / temperature))).sum(axis=1) for p, z in zip(asked, answers, strict=False)]
    right = int((answers[0].argmax(axis=1) == LABELS.numpy()).sum())
    match settings.name:
        case "ce":
            loss = ce
        case "kd":
            loss = ce + settings.lambda_clean * temperature**2 * kl[0].mean()
        case "dad":
            loss = ce + settings.lambda_clean * temperature**2 * kl[0].mean()
            loss += settings.lambda_adv * temperature**2 * (kl[1] * ATTACKED.numpy()).sum() / N
        case "dad_concat":
            loss = settings.ce_weight * ce + settings.kl_weight * kl[0].mean()
    return float(loss), right


def mixing_of(name: str) -> Mixing | None:
    keys = [f"key{i}" for i in range(N)]
    return draw_mixing(AugmentSettings.model_validate(MIXINGS[name]), seed=0, epoch=0, keys=keys, size=SIZE)


every_mixing = pytest.mark.parametrize("mixing", MIXINGS)


@every_mixing
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("name", ["ce", "kd", "dad", "dad_concat"])
def test_the_loss_of_a_batch_is_that_by_hand(name: LossName, smoothing: float, mixing: str) -> None:
    settings = LossSettings.model_validate({"name": name, "label_smoothing": smoothing, **UNEQUAL})
    batch, logits = batch_of(name, mixing_of(mixing), settings.temperature)
    found, rightly = loss_of(settings)(student(), batch)
    expected, right = by_hand(settings, student(), batch, logits)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert rightly.item() == right


@every_mixing
@pytest.mark.parametrize("name", ["kd", "dad", "dad_concat"])
def test_a_live_teacher_sees_what_is_not_mixed_and_its_answers_are_mixed(name: LossName, mixing: str) -> None:
    settings = LossSettings.model_validate({"name": name, **UNEQUAL})
    batch, logits = batch_of(name, mixing_of(mixing), settings.temperature)
    teacher = LinearTeacher()
    found, _ = loss_of(settings, teacher)(student(), replace(batch, teacher=()))
    pixels = batch.images.double().numpy().reshape(len(logits), N, -1) / 255
    expected, _ = by_hand(settings, student(), batch, pixels @ teacher.weight.double().numpy().T)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["kd", "dad", "dad_concat"])
def test_the_weights_are_the_papers_unless_given(name: LossName) -> None:
    papers = LossSettings(
        name=name,
        temperature=4.0,
        lambda_clean=0.5,
        lambda_adv=0.5,
        ce_weight=0.75,
        kl_weight=4.0,
        label_smoothing=0.0,
        adversarial_target="adversarial",
    )
    batch, logits = batch_of(name, None, 4.0)
    found, _ = loss_of(LossSettings(name=name))(student(), batch)
    assert found.item() == pytest.approx(by_hand(papers, student(), batch, logits)[0], rel=1e-5)


def test_a_pair_is_two_images_of_one_forward_pass() -> None:
    """BatchNorm's running statistics are those of one batch of all images."""
    network = student()
    batch, _ = batch_of("dad", None, 3.0)
    loss_of(LossSettings(temperature=3.0))(network, batch)
    pixels = normalised(batch.images / 255)
    assert network[0].get_buffer("num_batches_tracked") == 1
    torch.testing.assert_close(network[0].get_buffer("running_mean"), 0.1 * pixels.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(network[0].get_buffer("running_var"), 0.9 + 0.1 * pixels.var(dim=(0, 2, 3)))
