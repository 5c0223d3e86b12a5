"""The attack against closed forms and an independent loop over the authors' algorithm, on exact fakes.

All in float64, where no rounding of theirs or ours flips a code.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
import torch
from attack_fakes import (
    NORMS,
    SHAPE,
    GridCodec,
    LinearModel,
    attack,
    random_images,
    unit_starts,
)
from torch import Tensor

from dad_pipeline.attack_settings import ReencodeMode
from dad_pipeline.norms import NormName
from dad_pipeline.objectives import ObjectiveName, cross_entropy, kl_to_clean, margin

# ---------------------------------------------------------------- closed forms


def two_class_margin_slope(model: LinearModel) -> Tensor:
    return (model.weights[1] - model.weights[0]).detach()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("objective", ["cross_entropy", "margin"])
def test_on_two_linear_classes_every_attack_walks_epsilon_along_the_weights(
    norm: NormName, objective: ObjectiveName
) -> None:
    model, images, labels = LinearModel(2), random_images(1, low=0.3, high=0.7), torch.zeros(4, dtype=torch.long)
    slope = two_class_margin_slope(model)
    away = slope / slope.norm() if norm == "l2" else slope.sign()
    for steps, length in [(1, 0.04), (2, 0.08), (3, 0.1), (7, 0.1)]:  # epsilon is reached after two and a half steps
        result = attack(
            images,
            labels,
            model=model,
            quantizer=GridCodec(),
            norm=norm,
            step_size=0.04,
            steps=steps,
            reencode="final",
            objective=objective,
        )
        torch.testing.assert_close(result.perturbation, (length * away).expand(4, *SHAPE))


@pytest.mark.parametrize("norm", NORMS)
def test_the_nearest_adversarial_point_is_found_at_its_known_distance(norm: NormName) -> None:
    model, images = LinearModel(2), random_images(2, count=1, low=0.4, high=0.6)
    xq = attack(images, torch.tensor([0]), model=model, quantizer=GridCodec(), steps=0).vqgan_pixels
    labels = model(xq).argmax(1)
    dual = two_class_margin_slope(model).flatten().norm(p=2 if norm == "l2" else 1)
    distance = (-margin(model(xq), labels)[0] / dual).item()
    for factor, fooled in [(0.999, False), (1.001, True)]:
        epsilon = factor * distance
        result = attack(
            images,
            labels,
            model=model,
            quantizer=GridCodec(),
            norm=norm,
            epsilon=epsilon,
            step_size=epsilon / 3,
            steps=4,
            reencode="final",
        )
        assert bool(margin(model(xq + result.perturbation), labels) > 0) is fooled


def test_a_target_is_approached_along_its_own_margin() -> None:
    model, images = LinearModel(3), random_images(3, low=0.3, high=0.7)
    model.weights.data[2] -= 3.0  # never the strongest rival, so the margin towards 1 is z1 - z0
    labels, targets = torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long)
    result = attack(images, labels, model=model, quantizer=GridCodec(), objective="margin", targets=targets)
    slope = two_class_margin_slope(model)
    torch.testing.assert_close(result.perturbation, (0.01 * slope / slope.norm()).expand(4, *SHAPE))
    by_loss = attack(
        images, labels, model=model, quantizer=GridCodec(), epsilon=0.5, step_size=0.1, steps=5, targets=targets
    )
    assert (cross_entropy(model(by_loss.pixels), targets) < cross_entropy(model(by_loss.vqgan_pixels), targets)).all()


def test_the_kl_objective_drives_the_prediction_from_the_clean_one() -> None:
    model, images, labels = LinearModel(), random_images(4), torch.zeros(4, dtype=torch.long)
    clean = model(images).detach()
    towards_kl = partial(attack, model=model, quantizer=GridCodec(), epsilon=1.0, step_size=0.1, objective="kl")
    results = [towards_kl(images, labels, steps=steps, clean_logits=clean) for steps in (0, 5)]
    before, after = (kl_to_clean(model(result.pixels), clean) for result in results)
    assert (after > before + 0.1).all()


# ---------------------------------------------------------------- the authors' algorithm, one sample at a time

Array = npt.NDArray[np.float64]


def reference_round_trip(x: Array, levels: int) -> tuple[Array, Array]:
    """(level of each channel, reconstruction)."""
    index = np.rint(x * (levels - 1))
    return index, index / (levels - 1)


def reference_gradient(x: Array, label: int, weights: Array) -> Array:
    logits = (weights * x).sum(axis=(1, 2, 3))
    softmax = np.exp(logits - logits.max())
    softmax /= softmax.sum()
    softmax[label] -= 1
    return np.asarray(np.tensordot(softmax, weights, axes=1))


def reference_attack(
    x0: Array,
    label: int,
    weights: Array,
    start: Array | None,
    *,
    norm: str,
    epsilon: float,
    step_size: float,
    steps: int,
    reencode: str,
    levels: int,
) -> tuple[Array, Array]:
    """EasyRobust's pgd_generator as DAD calls it (images, not differences, are carried), on one image.

    Returns the level of each channel and the image given to the last encoding.
    """
    _, original = reference_round_trip(x0, levels)
    images = given = original if start is None else np.clip(original + epsilon * start, 0, 1)
    index = reference_round_trip(given, levels)[0]
    for _ in range(steps):
        gradient = reference_gradient(images, label, weights)
        if norm == "l2":
            images = images + step_size * gradient / (np.sqrt((gradient**2).sum()) + 1e-10)
            difference = images - original
            length = np.sqrt((difference**2).sum())
            if length > epsilon:
                difference = difference * epsilon / length
        else:
            images = images + step_size * np.sign(gradient)
            difference = np.clip(images - original, -epsilon, epsilon)
        given = images = np.clip(original + difference, 0, 1)
        index, reconstruction = reference_round_trip(images, levels)
        if reencode == "each_step":
            images = reconstruction
    return index, given


@pytest.mark.parametrize("reencode", ["each_step", "final"])
@pytest.mark.parametrize("steps", [0, 1, 2, 5])
@pytest.mark.parametrize("with_start", [False, True])
@pytest.mark.parametrize(("norm", "epsilon", "step_size"), [("l2", 0.1, 0.01), ("l2", 0.2, 0.1), ("linf", 0.03, 0.01)])
def test_it_is_the_authors_algorithm(
    norm: NormName, epsilon: float, step_size: float, with_start: bool, steps: int, reencode: ReencodeMode
) -> None:
    model, codec, images = LinearModel(), GridCodec(64), random_images(5, low=-0.02, high=1.02).clamp(0, 1)
    labels, weights = torch.tensor([0, 1, 2, 4]), model.weights.detach().numpy()
    start = unit_starts(6, norm) if with_start else None
    result = attack(
        images,
        labels,
        model=model,
        quantizer=codec,
        norm=norm,
        epsilon=epsilon,
        step_size=step_size,
        steps=steps,
        reencode=reencode,
        start=start,
    )
    for i in range(4):
        index, given = reference_attack(
            images[i].numpy(),
            int(labels[i]),
            weights,
            None if start is None else start[i].numpy(),
            norm=norm,
            epsilon=epsilon,
            step_size=step_size,
            steps=steps,
            reencode=reencode,
            levels=64,
        )
        np.testing.assert_allclose((result.vqgan_pixels + result.perturbation)[i].numpy(), given, atol=1e-9)
        assert np.array_equal((result.pixels[i] * 63).round().numpy(), index)
        assert np.array_equal(result.codes[i].numpy(), (index[0] * 64 + index[1]) * 64 + index[2])
    if with_start or (steps and step_size > 0.01):
        assert (result.codes_changed() > 0).any(), "a test in which no code flips shows little"
