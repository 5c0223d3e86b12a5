"""The attack against closed forms and an independent loop over the authors' algorithm, on exact fakes.

All in float64, where no rounding of theirs or ours flips a code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from dad_pipeline.attack import AttackResult, discrete_attack
from dad_pipeline.attack_settings import PRESETS, AttackSettings, GradientMode, ReencodeMode
from dad_pipeline.norms import NormName, l2_norm, linf_norm
from dad_pipeline.objectives import ObjectiveName, cross_entropy, kl_to_clean, margin

NORMS: tuple[NormName, ...] = ("l2", "linf")
SHAPE = (3, 4, 4)


def random_tensor(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_images(seed: int, count: int = 4, low: float = 0.0, high: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64)


def unit_starts(seed: int, norm: NormName, count: int = 4) -> Tensor:
    starts = random_tensor(seed, count, *SHAPE)
    return starts.clamp(-1, 1) if norm == "linf" else starts / l2_norm(starts)[:, None, None, None]


class GridCodec:
    """f = 1: each channel rounded to one of `levels` values, the three of them one code.

    With `drift`, decoding returns values that many levels up, so that no image is a fixed point of the round trip.
    """

    def __init__(self, levels: int = 64, drift: int = 0) -> None:
        self.levels, self.drift, self.calls = levels, drift, Counter[str]()

    def encode(self, pixels: Tensor) -> Tensor:
        self.calls["encode"] += 1
        red, green, blue = (pixels * (self.levels - 1)).round().long().unbind(1)
        return (red * self.levels + green) * self.levels + blue

    def decode(self, codes: Tensor) -> Tensor:
        self.calls["decode"] += 1
        channels = [codes // self.levels**power % self.levels for power in (2, 1, 0)]
        raised = (torch.stack(channels, 1) + self.drift).clamp(max=self.levels - 1)
        return raised.double() / (self.levels - 1)

    def straight_through(self, pixels: Tensor) -> Tensor:
        self.calls["straight_through"] += 1
        calls = self.calls.copy()
        reconstruction = self.decode(self.encode(pixels))
        self.calls = calls
        return pixels + (reconstruction - pixels).detach()


class LinearModel(nn.Module):
    """logits = W x, summed sample by sample, so that the batch cannot change a bit."""

    def __init__(self, num_classes: int = 5, seed: int = 0) -> None:
        super().__init__()
        self.weights = nn.Parameter(random_tensor(seed, num_classes, *SHAPE))
        self.num_calls = 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.num_calls += 1
        return (pixels[:, None] * self.weights).flatten(2).sum(-1)


# The values of `released`, where a test does not say otherwise.
attack = partial(discrete_attack, norm="l2", epsilon=0.1, step_size=0.01, steps=1)


def run_preset(
    preset: str, images: Tensor, labels: Tensor, model: LinearModel, codec: GridCodec, order: Sequence[int] = range(4)
) -> AttackResult:
    """A preset on the samples `order` of four, with the same noise for a sample wherever it stands."""
    chosen = AttackSettings.model_validate({"preset": preset})
    index = torch.tensor(order)
    return discrete_attack(
        images[index],
        labels[index],
        model=model,
        quantizer=codec,
        norm=chosen.norm,
        epsilon=chosen.epsilon,
        step_size=chosen.step_size,
        steps=chosen.steps,
        reencode=chosen.reencode,
        gradient=chosen.gradient,
        objective=chosen.objective,
        center=chosen.center,
        start=unit_starts(9, chosen.norm)[index] if chosen.random_start else None,
        directions=unit_starts(8, chosen.norm)[None, index] if chosen.direction == "random" else None,
    )


class PatchCodec:
    """f = 2, one latent a patch: z = a . patch, codes = round(50 z), patch' = b z + c. Linear, so that the
    straight-through gradient is known: it is the derivative of decode(encode(x) + constant)."""

    factor = 2

    def __init__(self) -> None:
        self.a = random_tensor(1, 12) / 6
        self.b = random_tensor(2, 12) / 6

    def latents(self, pixels: Tensor) -> Tensor:
        return torch.einsum("bchw,c->bhw", F.pixel_unshuffle(pixels, self.factor), self.a)

    def pixels(self, latents: Tensor) -> Tensor:
        return F.pixel_shuffle(torch.einsum("bhw,c->bchw", latents, self.b) + 0.5, self.factor)

    def encode(self, pixels: Tensor) -> Tensor:
        return (50 * self.latents(pixels)).round().long() + 1000

    def decode(self, codes: Tensor) -> Tensor:
        return self.pixels((codes - 1000).double() / 50).clamp(0, 1)

    def straight_through(self, pixels: Tensor) -> Tensor:
        latents = self.latents(pixels)
        return self.pixels(latents + ((50 * latents).round() / 50 - latents).detach())


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


# ---------------------------------------------------------------- gradients and controls


@pytest.mark.parametrize("mode", ["at_reconstruction", "straight_through"])
def test_the_step_follows_the_numerical_gradient(mode: GradientMode) -> None:
    model, codec = LinearModel(), PatchCodec()
    images, labels = random_images(7, count=1, low=0.4, high=0.6), torch.tensor([3])
    result = attack(images, labels, model=model, quantizer=codec, gradient=mode)
    xq = result.vqgan_pixels
    residual = codec.latents(xq)
    residual = (50 * residual).round() / 50 - residual  # what rounding adds, constant under straight-through

    def objective(x: Tensor) -> float:
        seen = codec.pixels(codec.latents(x) + residual) if mode == "straight_through" else x
        return cross_entropy(model(seen), labels).item()

    slope = torch.zeros_like(xq)
    for position in range(xq.numel()):
        nudge = torch.zeros(xq.numel(), dtype=torch.float64)
        nudge[position] = 1e-5
        nudge = nudge.view_as(xq)
        slope.view(-1)[position] = (objective(xq + nudge) - objective(xq - nudge)) / 2e-5
    torch.testing.assert_close(result.perturbation, 0.01 * slope / slope.norm(), rtol=1e-5, atol=1e-9)


def test_the_controls_are_what_their_names_say() -> None:
    codec, images, labels = GridCodec(levels=16, drift=1), random_images(10, high=0.7), torch.zeros(4, dtype=torch.long)
    once = codec.decode(codec.encode(images))
    twice = codec.decode(codec.encode(once))
    assert not torch.equal(once, twice)
    model = LinearModel()

    reconstruction = run_preset("reconstruction", images, labels, model, codec)
    assert torch.equal(reconstruction.codes, codec.encode(images))
    assert torch.equal(reconstruction.pixels, once)
    assert torch.equal(reconstruction.codes_changed(), torch.ones(4)), (
        "re-encoding moves every code of a drifting codec"
    )

    vqgan = run_preset("vqgan", images, labels, model, codec)
    assert torch.equal(vqgan.codes, codec.encode(once))
    assert torch.equal(vqgan.pixels, twice)
    assert torch.equal(vqgan.codes_changed(), torch.zeros(4))

    assert model.num_calls == 0
    for result in (reconstruction, vqgan):
        assert torch.equal(result.vqgan_pixels, once)
        assert torch.equal(result.vqgan_codes, codec.encode(once))
        assert not result.perturbation.any()
        assert result.finite.all()


@pytest.mark.parametrize("norm", NORMS)
def test_the_noise_control_steps_as_far_as_the_attack_without_asking_the_model(norm: NormName) -> None:
    model, images, labels = LinearModel(), random_images(11, low=0.3, high=0.7), torch.zeros(4, dtype=torch.long)
    directions = unit_starts(12, norm)[None] if norm == "l2" else unit_starts(12, norm)[None].sign()
    attacked = attack(images, labels, model=model, quantizer=GridCodec(), norm=norm)
    assert model.num_calls == 1
    noise = attack(images, labels, model=model, quantizer=GridCodec(), norm=norm, directions=directions)
    assert model.num_calls == 1
    torch.testing.assert_close(noise.perturbation, 0.01 * directions[0])
    for size in (l2_norm, linf_norm)[: 1 if norm == "l2" else 2]:
        torch.testing.assert_close(size(noise.perturbation), size(attacked.perturbation))


# ---------------------------------------------------------------- costs, budgets, independence, faults


@pytest.mark.parametrize(
    ("preset", "encode", "decode", "straight_through", "model_calls"),
    [
        ("released", 3, 2, 0, 1),
        ("dat", 3, 2, 0, 1),
        ("strong", 3, 2, 5, 5),
        ("noise", 3, 2, 0, 0),
        ("vqgan", 2, 2, 0, 0),
        ("reconstruction", 2, 1, 0, 0),
    ],
)
def test_no_pass_is_made_twice(preset: str, encode: int, decode: int, straight_through: int, model_calls: int) -> None:
    codec, model = GridCodec(), LinearModel()
    run_preset(preset, random_images(13), torch.zeros(4, dtype=torch.long), model, codec)
    assert codec.calls == Counter(encode=encode, decode=decode, straight_through=straight_through)
    assert model.num_calls == model_calls


def test_each_further_step_costs_one_round_trip_and_one_gradient() -> None:
    codec, model = GridCodec(), LinearModel()
    attack(random_images(13), torch.zeros(4, dtype=torch.long), model=model, quantizer=codec, steps=4)
    assert (codec.calls["encode"], codec.calls["decode"], model.num_calls) == (3 + 3, 2 + 3, 4)


@settings(max_examples=60, deadline=None)
@given(
    norm=st.sampled_from(NORMS),
    epsilon=st.floats(1e-3, 3),
    step_size=st.floats(1e-3, 3),
    steps=st.integers(0, 4),
    reencode=st.sampled_from(["each_step", "final"]),
    mode=st.sampled_from(["at_reconstruction", "straight_through"]),
    random_start=st.booleans(),
    noise=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_budget_and_the_pixel_range_hold(
    norm: NormName,
    epsilon: float,
    step_size: float,
    steps: int,
    reencode: ReencodeMode,
    mode: GradientMode,
    random_start: bool,
    noise: bool,
    seed: int,
) -> None:
    images, codec = random_images(seed).float(), GridCodec(32)
    directions = torch.stack([unit_starts(seed + i, norm) for i in range(steps)]) if noise and steps else None
    result = attack(
        images,
        torch.arange(4),
        model=LinearModel(),
        quantizer=codec,
        norm=norm,
        epsilon=epsilon,
        step_size=step_size,
        steps=steps,
        reencode=reencode,
        gradient=mode,
        start=unit_starts(seed, norm).float() if random_start else None,
        directions=directions.float() if directions is not None else None,
    )
    size = (l2_norm if norm == "l2" else linf_norm)(result.perturbation)
    assert (size <= epsilon * (1 + 1e-5) + 1e-6).all()
    for pixels in (result.vqgan_pixels + result.perturbation, result.pixels):
        assert -1e-7 <= pixels.min().item() <= pixels.max().item() <= 1 + 1e-7
        assert pixels.dtype == torch.float32
    assert torch.equal(result.pixels, codec.decode(result.codes).float())


@pytest.mark.parametrize("preset", PRESETS)
def test_a_sample_does_not_depend_on_its_neighbours(preset: str) -> None:
    images, labels, codec, model = random_images(14), torch.tensor([0, 1, 2, 4]), GridCodec(256), LinearModel()
    together = run_preset(preset, images, labels, model, codec)
    for order in ([0], [1], [3, 2], [3, 2, 1, 0]):
        apart = run_preset(preset, images, labels, model, codec, order)
        for position, sample in enumerate(order):
            assert torch.equal(apart.codes[position], together.codes[sample])
            assert torch.equal(apart.perturbation[position], together.perturbation[sample])


@pytest.mark.parametrize("norm", NORMS)
def test_a_sample_without_finite_gradient_is_marked_and_harms_no_other(norm: NormName) -> None:
    model, images, labels = LinearModel(), random_images(15), torch.tensor([0, 1, 2, 4])
    healthy = attack(images, labels, model=model, quantizer=GridCodec(), norm=norm, steps=3)

    def breaks_on_the_second(pixels: Tensor) -> Tensor:
        logits: Tensor = model(pixels)
        scale = torch.ones(4, 1, dtype=logits.dtype)
        scale[1] = torch.nan
        return logits * scale

    broken = attack(images, labels, model=breaks_on_the_second, quantizer=GridCodec(), norm=norm, steps=3)
    assert healthy.finite.tolist() == [True] * 4
    assert broken.finite.tolist() == [True, False, True, True]
    assert not broken.perturbation[1].any(), "it takes no step"
    for i in (0, 2, 3):
        assert torch.equal(broken.codes[i], healthy.codes[i])
        assert torch.equal(broken.perturbation[i], healthy.perturbation[i])


@pytest.mark.parametrize("preset", ["released", "reconstruction"])
def test_a_sample_decoded_to_nan_is_marked(preset: str) -> None:
    class BrokenCodec(GridCodec):
        def decode(self, codes: Tensor) -> Tensor:
            pixels = super().decode(codes)
            pixels[2] = torch.nan
            return pixels

    result = run_preset(preset, random_images(16), torch.zeros(4, dtype=torch.long), LinearModel(), BrokenCodec())
    assert result.finite.tolist() == [True, True, False, True]


def test_nothing_is_left_behind() -> None:
    model, images, codec = LinearModel(), random_images(17), GridCodec()
    before = images.clone()
    result = attack(images, torch.zeros(4, dtype=torch.long), model=model, quantizer=codec, gradient="straight_through")
    assert model.weights.grad is None
    assert images.grad is None
    assert torch.equal(images, before)
    assert not any(each.requires_grad for each in (result.pixels, result.vqgan_pixels, result.perturbation))
    assert torch.is_grad_enabled()


def test_half_precision_networks_leave_the_perturbation_in_float32() -> None:
    class HalfCodec(GridCodec):
        def decode(self, codes: Tensor) -> Tensor:
            return super().decode(codes).bfloat16()

    model, images, labels = (
        LinearModel(),
        random_images(18, low=0.2, high=0.8).float(),
        torch.zeros(4, dtype=torch.long),
    )
    result = attack(
        images, labels, model=lambda pixels: model(pixels).bfloat16(), quantizer=HalfCodec(), step_size=0.001
    )
    assert result.perturbation.dtype == result.pixels.dtype == torch.float32
    # 0.001 over 48 values is below a step of bfloat16, yet all of it is there.
    torch.testing.assert_close(l2_norm(result.perturbation), torch.full((4,), 0.001), rtol=1e-3, atol=0)


def test_misuse_is_caught() -> None:
    images, labels, codec, model = random_images(19), torch.zeros(4, dtype=torch.long), GridCodec(), LinearModel()
    with torch.inference_mode(), pytest.raises(AssertionError, match="inference mode"):
        attack(images, labels, model=model, quantizer=codec)
    for steps, start in [(1, None), (0, unit_starts(1, "l2"))]:
        with pytest.raises(AssertionError, match="unperturbed"):
            discrete_attack(
                images,
                labels,
                model=model,
                quantizer=codec,
                norm="l2",
                epsilon=0.1,
                step_size=0.1,
                steps=steps,
                center="clean",
                start=start,
            )
