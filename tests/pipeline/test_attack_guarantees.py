"""What every attack keeps to: its gradient and controls, its costs, its budget; a fault stays where it is."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from attack_fakes import (
    NORMS,
    GridCodec,
    LinearModel,
    PatchCodec,
    attack,
    random_images,
    run_preset,
    unit_starts,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dad_pipeline.attack import discrete_attack
from dad_pipeline.attack_settings import PRESETS, GradientMode, ReencodeMode
from dad_pipeline.norms import NormName, l2_norm, linf_norm
from dad_pipeline.objectives import cross_entropy

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
