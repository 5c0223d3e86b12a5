"""The balls: directions of steepest ascent and projections, against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dad_pipeline.norms import NormName, l2_norm, linf_norm, normalise, project

SHAPE = (3, 3, 4, 5)
NORMS: tuple[NormName, ...] = ("l2", "linf")


def random_images(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def norm_of(images: Tensor, norm: NormName) -> Tensor:
    return l2_norm(images) if norm == "l2" else linf_norm(images)


def test_the_norms_are_those_of_each_sample() -> None:
    images = torch.zeros(2, 3, 2, 2)
    images[0, 0, 0, 0], images[0, 2, 1, 1] = 3, -4
    images[1, 1, 0, 1] = -2
    assert l2_norm(images).tolist() == [5, 2]
    assert linf_norm(images).tolist() == [4, 2]


@pytest.mark.parametrize("norm", NORMS)
def test_normalise_gives_the_steepest_direction_of_the_unit_ball(norm: NormName) -> None:
    gradient = random_images(0, torch.float64)
    direction = normalise(gradient, norm)
    torch.testing.assert_close(norm_of(direction, norm), torch.ones(3, dtype=torch.float64))
    # Hoelder: no unit vector does better than the dual norm of the gradient, and this one reaches it.
    dual = gradient.flatten(1).norm(p=2 if norm == "l2" else 1, dim=1)
    torch.testing.assert_close((direction * gradient).flatten(1).sum(1), dual)


@given(exponent=st.integers(-35, 35), seed=st.integers(0, 100))
def test_the_length_of_a_gradient_does_not_matter(exponent: int, seed: int) -> None:
    gradient = random_images(seed)
    direction = normalise(gradient * 10.0**exponent, "l2")
    torch.testing.assert_close(direction, normalise(gradient, "l2"), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_a_zero_gradient_gives_no_step_and_leaves_the_others_alone(norm: NormName) -> None:
    gradient = random_images(1)
    expected = normalise(gradient, norm)
    gradient[1] = 0
    direction = normalise(gradient, norm)
    assert torch.equal(direction[1], torch.zeros(SHAPE[1:]))
    assert torch.equal(direction[::2], expected[::2])


@given(norm=st.sampled_from(NORMS), epsilon=st.floats(1e-4, 50), seed=st.integers(0, 100))
def test_projection_lands_in_the_ball_and_moves_nothing_inside_it(norm: NormName, epsilon: float, seed: int) -> None:
    perturbation = random_images(seed)
    projected = project(perturbation, epsilon, norm)
    assert (norm_of(projected, norm) <= epsilon * (1 + 1e-6)).all()
    inside = norm_of(perturbation, norm) <= epsilon
    assert torch.equal(projected[inside], perturbation[inside])
    torch.testing.assert_close(project(projected, epsilon, norm), projected)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_gives_the_nearest_point_of_the_ball(norm: NormName) -> None:
    outside = random_images(2, torch.float64) * 3
    epsilon = 0.5
    nearest = project(outside, epsilon, norm)
    for seed in range(20):
        other = random_images(seed, torch.float64)
        other = other / norm_of(other, norm)[:, None, None, None] * epsilon
        # Convex set: from the projection, no point of the ball lies on the outside point's side.
        assert (((outside - nearest) * (other - nearest)).flatten(1).sum(1) <= 1e-9).all()


def test_projection_agrees_with_torch_renorm_and_keeps_zero() -> None:
    perturbation = random_images(3, torch.float64)
    torch.testing.assert_close(project(perturbation, 0.7, "l2"), perturbation.renorm(2, 0, 0.7), rtol=1e-6, atol=0)
    assert torch.equal(project(torch.zeros(SHAPE), 0.7, "l2"), torch.zeros(SHAPE))
