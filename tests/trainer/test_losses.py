"""The losses against their formulas written out in numpy's float64."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dad_datasets.errors import UserError
from dad_datasets.settings import build_settings
from dad_trainer.losses import AdversarialTarget, LossSettings, ce, dad, dad_concat, kd, one_hot
from dad_trainer.teacher_targets import TeacherTargets
from dad_trainer.training.batch import Batch
from dad_trainer.training.step import Arithmetic, BatchLoss

ROWS, CLASSES, T = 4, 6, 4.0
LABELS = torch.tensor([1, 5, 0, 3])
EVERYONE = torch.ones(ROWS, dtype=torch.bool)


def random_logits(seed: int) -> Tensor:
    return 3 * torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact_targets(logits: Tensor, temperature: float = T) -> TeacherTargets:
    return TeacherTargets(probabilities=(logits / temperature).softmax(dim=1))


def log_softmax(logits: Tensor, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    z = logits.numpy() / temperature
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))


def mean_ce(logits: Tensor, labels: Tensor) -> float:
    return float(-(labels.numpy() * log_softmax(logits)).sum(axis=1).mean())


def kl_of_rows(teacher: Tensor, student: Tensor, temperature: float = T) -> npt.NDArray[np.float64]:
    p, q = log_softmax(teacher, temperature), log_softmax(student, temperature)
    return np.asarray((np.exp(p) * (p - q)).sum(axis=1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ce_on_one_hot_labels_is_torchs(smoothing: float) -> None:
    logits = random_logits(0)
    labels = one_hot(LABELS, CLASSES, smoothing).double()
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(ROWS, dtype=torch.float64))
    expected = F.cross_entropy(logits, LABELS, label_smoothing=smoothing)
    assert ce(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)
    assert ce(logits, labels).item() == pytest.approx(mean_ce(logits, labels), rel=1e-6)


def test_kd_is_its_formula() -> None:
    student, teacher, labels = random_logits(1), random_logits(2), one_hot(LABELS, CLASSES).double()
    expected = mean_ce(student, labels) + 0.7 * T**2 * kl_of_rows(teacher, student).mean()
    assert kd(student, labels, exact_targets(teacher), temperature=T, weight=0.7).item() == pytest.approx(expected)
    assert kd(student, labels, exact_targets(teacher), temperature=T, weight=0.0) == ce(student, labels)


def dad_of(attacked: Tensor = EVERYONE, *, adversarial: Tensor | None = None, lambda_adv: float = 0.3) -> Tensor:
    return dad(
        random_logits(3),
        random_logits(4) if adversarial is None else adversarial,
        one_hot(LABELS, CLASSES, 0.1).double(),
        exact_targets(random_logits(5)),
        exact_targets(random_logits(6)),
        temperature=T,
        lambda_clean=0.5,
        lambda_adv=lambda_adv,
        attacked=attacked,
    )


def test_dad_is_its_formula() -> None:
    expected = (
        mean_ce(random_logits(3), one_hot(LABELS, CLASSES, 0.1).double())
        + 0.5 * T**2 * kl_of_rows(random_logits(5), random_logits(3)).mean()
        + 0.3 * T**2 * kl_of_rows(random_logits(6), random_logits(4)).mean()
    )
    assert dad_of().item() == pytest.approx(expected, rel=1e-6)


def test_dad_without_its_adversarial_term_is_kd() -> None:
    labels = one_hot(LABELS, CLASSES, 0.1).double()
    expected = kd(random_logits(3), labels, exact_targets(random_logits(5)), temperature=T, weight=0.5)
    assert dad_of(lambda_adv=0.0).item() == pytest.approx(expected.item())
    assert dad_of(~EVERYONE).item() == pytest.approx(expected.item())


def test_a_view_without_attack_has_no_adversarial_term_and_its_neighbours_keep_their_weight() -> None:
    attacked = torch.tensor([True, False, True, True])
    kl = kl_of_rows(random_logits(6), random_logits(4))
    assert (dad_of() - dad_of(attacked)).item() == pytest.approx(0.3 * T**2 * kl[1] / ROWS)
    adversarial = random_logits(4).requires_grad_(True)
    (alone,) = torch.autograd.grad(dad_of(attacked, adversarial=adversarial), adversarial)
    (together,) = torch.autograd.grad(dad_of(adversarial=adversarial), adversarial)
    assert torch.equal(alone[attacked], together[attacked])
    assert alone[1].eq(0).all()
    assert together[1].abs().sum() > 0


def test_dad_concat_is_its_formula() -> None:
    student, teacher, labels = random_logits(7), random_logits(8), one_hot(LABELS, CLASSES).double()
    expected = 0.75 * mean_ce(student, labels) + 4 * kl_of_rows(teacher, student).mean()
    found = dad_concat(student, labels, exact_targets(teacher), temperature=T)
    assert found.item() == pytest.approx(expected)
    as_kd = dad_concat(student, labels, exact_targets(teacher), temperature=T, ce_weight=1.0, kl_weight=0.5 * T**2)
    assert as_kd.item() == pytest.approx(kd(student, labels, exact_targets(teacher), temperature=T, weight=0.5).item())


def test_the_factor_of_t_squared_keeps_the_gradient_of_one_size() -> None:
    student, teacher, labels = random_logits(9), random_logits(10), one_hot(LABELS, CLASSES).double()

    def slope(temperature: float) -> Tensor:
        logits = student.clone().requires_grad_(True)
        targets = exact_targets(teacher, temperature)
        loss = kd(logits, labels, targets, temperature=temperature, weight=1.0) - ce(logits, labels)
        return torch.autograd.grad(loss, logits)[0]

    # Hinton et al., eq. 4: in the limit (s - t) / classes, for logits of mean 0 over the classes.
    gap = student - teacher
    limit = (gap - gap.mean(dim=1, keepdim=True)) / CLASSES / ROWS
    torch.testing.assert_close(slope(1e6), limit, rtol=1e-3, atol=1e-6)
    assert 0.3 < (slope(2.0).norm() / slope(200.0).norm()).item() < 3  # without the factor: about 10,000


def test_kl_is_summed_over_the_classes() -> None:
    """Opposed certain predictions are 2 tanh(1) nats apart, however many further classes have no mass."""
    for classes in (2, 100):
        student = torch.full((ROWS, classes), -1e3, dtype=torch.float64)
        student[:, 0], student[:, 1] = 1.0, -1.0
        teacher = student.clone()
        teacher[:, 0], teacher[:, 1] = -1.0, 1.0
        labels = one_hot(torch.zeros(ROWS, dtype=torch.long), classes).double()
        targets = exact_targets(teacher, 1.0)
        found = dad_concat(student, labels, targets, temperature=1.0, ce_weight=0.0, kl_weight=1.0)
        assert found.item() == pytest.approx(2 * math.tanh(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_a_float32_loss(dtype: torch.dtype) -> None:
    student, labels = random_logits(11).to(dtype), one_hot(LABELS, CLASSES)
    targets = TeacherTargets(probabilities=(random_logits(12) / T).softmax(1).float())
    found = kd(student, labels, targets, temperature=T, weight=0.5)
    assert found.dtype == torch.float32
    assert found.item() == kd(student.float(), labels, targets, temperature=T, weight=0.5).item()


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ({"name": "kl"}, "name = 'kl': .*'ce', 'kd', 'dad' or 'dad_concat'"),
        ({"temperature": 0}, "temperature = 0: .*greater than 0"),
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0"),
        ({"lambda_advv": 1.0}, "did you mean lambda_adv"),
    ],
)
def test_mistakes_in_the_settings(raw: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        build_settings(LossSettings, raw, origin="recipe")


@pytest.mark.parametrize("target", ["adversarial", "clean"])
def test_what_the_adversarial_image_is_taught(target: AdversarialTarget) -> None:
    """Through the step's own loss, with a student whose logits are its pixels."""
    clean, adversarial = exact_targets(random_logits(5)), exact_targets(random_logits(6))
    pixels = torch.randint(0, 256, (2 * ROWS, 3, 1, 1), dtype=torch.uint8)
    batch = Batch(
        images=pixels, labels=LABELS % 3, attacked=EVERYONE, teacher=(_of_3(clean), _of_3(adversarial)), mixing=None
    )
    loss = BatchLoss(
        settings=LossSettings(temperature=T, adversarial_target=target),
        num_classes=3,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        arithmetic=Arithmetic(device=torch.device("cpu"), precision="float32", channels_last=False),
    )
    found, _ = loss(torch.nn.Flatten(), batch)
    logits = pixels.flatten(1) / 255
    asked = {"adversarial": adversarial, "clean": clean}[target]
    expected = dad(
        logits[:ROWS],
        logits[ROWS:],
        one_hot(LABELS % 3, 3),
        _of_3(clean),
        _of_3(asked),
        temperature=T,
        lambda_clean=0.5,
        lambda_adv=0.5,
        attacked=EVERYONE,
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def _of_3(targets: TeacherTargets) -> TeacherTargets:
    """Of the first three classes."""
    kept = targets.probabilities[:, :3]
    return TeacherTargets(probabilities=(kept / kept.sum(1, keepdim=True)).float())
