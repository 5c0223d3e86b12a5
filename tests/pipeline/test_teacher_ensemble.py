"""Ensembles, against the mean of probabilities in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from dad_datasets.errors import UserError
from dad_pipeline.teachers import Teacher, TeacherSettings, load_teacher
from dad_pipeline.teachers.ensemble import MeanProbabilities, make_ensemble


class Linear(nn.Module):
    """Logits linear in the pixels, so that a closed form is known."""

    def __init__(self, num_classes: int, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(5 * torch.randn(12, num_classes, generator=torch.Generator().manual_seed(seed)))

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1) @ self.weight


def teacher(num_classes: int, seed: int) -> Teacher:
    return Teacher(Linear(num_classes, seed), num_classes=num_classes, preprocessing=f"member {seed}")


def probabilities(logits: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    exponentials = np.exp(logits.double().numpy() - logits.double().numpy().max(1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(1, keepdims=True))


@pytest.mark.parametrize(("weights", "shares"), [(None, (0.5, 0.5)), ((3.0, 1.0), (0.75, 0.25))])
def test_is_the_log_of_the_mean_probability(weights: tuple[float, ...] | None, shares: tuple[float, float]) -> None:
    pixels = torch.rand(4, 3, 2, 2)
    members = [teacher(5, seed=0), teacher(5, seed=1)]
    ensemble = make_ensemble(members, weights)
    expected = sum(
        share * probabilities(member(pixels).detach()) for share, member in zip(shares, members, strict=True)
    )
    assert np.allclose(np.exp(ensemble(pixels).double().numpy()), expected, atol=1e-6)
    assert ensemble.num_classes == 5
    assert ensemble.preprocessing == "member 0 | member 1"


def test_a_certain_member_leaves_finite_logits() -> None:
    class Certain(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return 1e4 * torch.eye(3)[:1].expand(len(pixels), 3)

    logits = MeanProbabilities([Certain(), Certain()], [1.0, 1.0])(torch.rand(2, 3, 2, 2))
    assert torch.isfinite(logits).all()


def test_gradient() -> None:
    ensemble = make_ensemble([teacher(3, seed=0), teacher(3, seed=1)], [1.0, 2.0])
    pixels = torch.rand(2, 3, 2, 2, requires_grad=True)
    loss = ensemble(pixels)[:, 0].sum()
    (gradient,) = torch.autograd.grad(loss, pixels)
    direction = torch.randn_like(pixels)
    step = 1e-3
    ahead, behind = (ensemble(pixels.detach() + sign * step * direction)[:, 0].sum() for sign in (1, -1))
    assert float((gradient * direction).sum()) == pytest.approx(
        float((ahead - behind) / (2 * step)), rel=2e-2, abs=2e-2
    )


def test_members_of_different_size_are_refused() -> None:
    with pytest.raises(UserError, match="different numbers of classes: 3, 4"):
        make_ensemble([teacher(3, seed=0), teacher(4, seed=1)], None)


def test_from_a_recipe() -> None:
    members = [{"kind": "timm", "architecture": "test_resnet", "checkpoint": "random", "seed": s} for s in (0, 1)]
    settings: TeacherSettings = TypeAdapter(TeacherSettings).validate_python(
        {"kind": "ensemble", "members": members, "weights": [1, 3]}
    )
    ensemble = load_teacher(settings, class_names=("cat", "dog"), device=torch.device("cpu"))
    assert torch.allclose(ensemble(torch.rand(2, 3, 32, 32)).exp().sum(1), torch.ones(2), atol=1e-5)
    assert not any(parameter.requires_grad for parameter in ensemble.parameters())
