"""Attack objectives against their formulas, and their gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dad_pipeline.objectives import (
    ObjectiveName,
    attack_objective,
    cross_entropy,
    kl_to_clean,
    least_likely_target,
    margin,
    runner_up_target,
)

LABELS = torch.tensor([2, 0, 4])


def random_logits(seed: int) -> Tensor:
    return 3 * torch.randn(3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probabilities(row: list[float]) -> list[float]:
    total = sum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


def test_the_values_are_those_of_the_formulas() -> None:
    logits, clean = random_logits(0), random_logits(1)
    for i, label in enumerate(LABELS.tolist()):
        p, q = probabilities(clean[i].tolist()), probabilities(logits[i].tolist())
        others = [z for j, z in enumerate(logits[i].tolist()) if j != label]
        assert cross_entropy(logits, LABELS)[i].item() == pytest.approx(-math.log(q[label]))
        expected_kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert kl_to_clean(logits, clean)[i].item() == pytest.approx(expected_kl)
        assert margin(logits, LABELS)[i].item() == pytest.approx(max(others) - logits[i, label].item())


def test_kl_is_zero_only_where_the_predictions_agree() -> None:
    clean = random_logits(2)
    torch.testing.assert_close(kl_to_clean(clean + 7.0, clean), torch.zeros(3, dtype=torch.float64))
    assert (kl_to_clean(random_logits(3), clean) > 0.01).all()


def test_kl_stays_finite_for_a_certain_prediction() -> None:
    certain = torch.tensor([[0.0, 500.0, -500.0]])
    assert kl_to_clean(certain.roll(1, 1), certain).item() == pytest.approx(500)
    assert kl_to_clean(certain, certain).item() == 0


def test_margin_is_positive_exactly_where_the_model_is_wrong() -> None:
    logits = random_logits(4)
    assert torch.equal(margin(logits, LABELS) > 0, logits.argmax(1) != LABELS)
    assert (margin(logits, logits.argmax(1)) < 0).all()


@pytest.mark.parametrize(
    ("name", "targeted"),
    [("cross_entropy", False), ("cross_entropy", True), ("kl", False), ("margin", False), ("margin", True)],
)
def test_the_gradients_are_right(name: ObjectiveName, targeted: bool) -> None:
    clean = random_logits(5)
    targets = (LABELS + 1) % 5 if targeted else None

    def objective(logits: Tensor) -> Tensor:
        return attack_objective(name, logits, LABELS, clean_logits=clean, targets=targets)

    assert torch.autograd.gradcheck(objective, (random_logits(6).requires_grad_(True),))


@pytest.mark.parametrize("name", ["cross_entropy", "margin"])
def test_a_targeted_objective_rises_with_the_target_alone(name: ObjectiveName) -> None:
    logits, targets = random_logits(7), torch.tensor([1, 1, 1])
    value = attack_objective(name, logits, LABELS, targets=targets)
    for j in range(5):
        raised = logits.clone()
        raised[:, j] += 10.0  # more than any gap between the logits here
        change = attack_objective(name, raised, LABELS, targets=targets) - value
        assert (change > 0 if j == 1 else change < 0).all()


def test_the_kl_objective_names_what_it_lacks() -> None:
    with pytest.raises(AssertionError, match="clean image"):
        attack_objective("kl", random_logits(0), LABELS)
    with pytest.raises(AssertionError, match="targeted"):
        attack_objective("kl", random_logits(0), LABELS, clean_logits=random_logits(1), targets=LABELS)


def test_targets_are_chosen_among_the_other_classes() -> None:
    logits = torch.tensor([[5.0, 1.0, 3.0, 0.0], [5.0, 1.0, 3.0, 0.0], [5.0, 1.0, 3.0, 0.0]])
    labels = torch.tensor([0, 3, 1])
    assert runner_up_target(logits, labels).tolist() == [2, 0, 0]
    assert least_likely_target(logits, labels).tolist() == [3, 1, 3]
