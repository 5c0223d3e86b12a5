"""What the quantizer's training is made of: losses, codebook, batches, figures, each by its definition."""

from __future__ import annotations

import io
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text
from torch import Tensor, nn
from torch.nn import functional as F

from dad_datasets.errors import UserError
from dad_datasets.settings import build_settings
from dad_pipeline.quantizer import Quantizer, QuantizerArchitecture
from dad_pipeline.quantizer_training.codebook import dead_codes, draw_vectors, perplexity, restart_codes
from dad_pipeline.quantizer_training.discriminator import (
    adversarial_weight,
    build_discriminator,
    discriminator_loss,
)
from dad_pipeline.quantizer_training.figures import QuantizerFigures, measure, psnr_db
from dad_pipeline.quantizer_training.images import Batches, ImageSet, hold_back
from dad_pipeline.quantizer_training.losses import (
    TeacherDistance,
    feature_distance,
    logit_divergence,
    quantisation_loss,
    reconstruction_loss,
)
from dad_pipeline.quantizer_training.screen import training_screen
from dad_pipeline.quantizer_training.settings import OptimiserSettings
from dad_pipeline.quantizer_training.state import differing_fields
from dad_pipeline.quantizer_training.step import StepFigures, learning_rate
from dad_pipeline.teachers import Teacher

CPU = torch.device("cpu")
NETWORK = {
    "resolution": 8,
    "ch": 32,
    "ch_mult": [1, 1],
    "num_res_blocks": 1,
    "z_channels": 4,
    "embed_dim": 3,
    "n_embed": 16,
}


class LinearTeacher(nn.Module):
    """Two logits: the brightness of the left half and of the right half."""

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.stack([half.mean(dim=(1, 2, 3)) for half in pixels.chunk(2, dim=3)], dim=1)


def linear_teacher() -> Teacher:
    return Teacher(LinearTeacher(), num_classes=2, preprocessing="none")


def test_the_figures_of_a_perfect_and_of_a_blind_quantizer() -> None:
    torch.manual_seed(0)
    quantizer = Quantizer(build_settings(QuantizerArchitecture, NETWORK, origin="test"))
    pixels = torch.zeros(6, 3, 8, 8, dtype=torch.uint8)
    pixels[:3, :, :, :4] = 255
    pixels[3:, :, :, 4:] = 255
    images = ImageSet(pixels=pixels, labels=torch.tensor([0, 0, 0, 1, 1, 0]))

    class Perfect(Quantizer):
        def decode(self, codes: Tensor) -> Tensor:
            return pixels.float() / 255

    perfect = Perfect(quantizer.architecture)
    figures = measure(perfect, images, device=CPU, batch_size=6, teacher=linear_teacher())
    assert figures.psnr_db == pytest.approx(100)
    assert figures.teacher_clean == figures.teacher_round_trip == pytest.approx(5 / 6)

    class Blind(Quantizer):
        def decode(self, codes: Tensor) -> Tensor:
            grey = torch.zeros(len(codes), 3, 8, 8)
            grey[:, :, :, :4] = 0.5
            return grey

    blind = Blind(quantizer.architecture)
    with torch.no_grad():
        blind.codebook[1:] = 1e6  # one code alone is near to anything
    figures = measure(blind, images, device=CPU, batch_size=4, teacher=linear_teacher())
    assert figures.teacher_round_trip == pytest.approx(4 / 6)
    assert figures.codes_used == pytest.approx(1 / 16)
    assert figures.perplexity == pytest.approx(1)
    assert measure(blind, images, device=CPU, batch_size=4, teacher=None).teacher_clean is None


def test_psnr_is_its_definition() -> None:
    wanted = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    found = wanted + torch.tensor([0.1, 0.01], dtype=torch.float64)[:, None, None, None]
    torch.testing.assert_close(psnr_db(found, wanted), torch.tensor([20.0, 40.0], dtype=torch.float64))


def test_batches_cover_every_image_once_an_epoch_in_an_order_of_its_own() -> None:
    numbers = torch.arange(23, dtype=torch.uint8)
    pixels = numbers[:, None, None, None].expand(23, 3, 2, 2).clone()
    pixels[:, :, :, 1] = 200
    images = ImageSet(pixels=pixels, labels=torch.zeros(23, dtype=torch.int64))

    def batch(step: int) -> tuple[list[int], int]:
        found = (Batches(images, batch_size=5, seed=3)(step) * 255).round()
        mirrored = found[:, 0, 0, 0] == 200
        left = torch.where(mirrored, found[:, 0, 0, 1], found[:, 0, 0, 0])
        return [int(value) for value in left], int(mirrored.sum())

    epochs = [[number for step in range(4 * e, 4 * e + 4) for number in batch(step)[0]] for e in range(2)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert 20 < sum(batch(step)[1] for step in range(20)) < 80  # of 100: about half are mirrored
    in_order = Batches(images, batch_size=5, seed=3)
    assert all(torch.equal(in_order(step), Batches(images, batch_size=5, seed=3)(step)) for step in (0, 1, 4, 5, 2))


def test_crops_move_over_a_black_border_each_by_its_own_draw() -> None:
    """A single white pixel in the middle lands on every offset of -2..2, and never leaves the picture."""
    pixels = torch.zeros(200, 3, 5, 5, dtype=torch.uint8)
    pixels[:, :, 2, 2] = 255
    images = ImageSet(pixels=pixels, labels=torch.zeros(200, dtype=torch.int64))
    found = Batches(images, batch_size=200, seed=0, crop_padding=2)(0)
    assert torch.equal(found.sum((2, 3)), torch.ones(200, 3))
    assert {divmod(int(image[0].argmax()), 5) for image in found} == {(y, x) for y in range(5) for x in range(5)}
    assert torch.equal(found, Batches(images, batch_size=200, seed=0, crop_padding=2)(0))
    still = Batches(images, batch_size=200, seed=0)(0)
    assert torch.equal(still[:, :, 2, 2], torch.ones(200, 3))


def test_held_back_images_are_a_partition() -> None:
    images = ImageSet(pixels=torch.zeros(10, 3, 1, 1, dtype=torch.uint8), labels=torch.arange(10))
    training, validation = hold_back(images, 3, seed=0)
    assert sorted(training.labels.tolist() + validation.labels.tolist()) == list(range(10))
    assert len(validation) == 3


def test_quantisation_loss_is_van_den_oords() -> None:
    latents = torch.randn(2, 3, 4, 4, requires_grad=True)
    vectors = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = quantisation_loss(latents, vectors, codebook=2.0, commitment=0.5)
    on_latents, on_vectors = torch.autograd.grad(loss, (latents, vectors))
    gap = 2 * (latents - vectors).detach() / latents.numel()
    torch.testing.assert_close(on_latents, 0.5 * gap)
    torch.testing.assert_close(on_vectors, -2.0 * gap)
    assert float(loss.detach()) == pytest.approx(2.5 * float(F.mse_loss(latents.detach(), vectors.detach())), rel=1e-5)


def test_pixel_and_logit_losses_are_their_definitions() -> None:
    found, wanted = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    gap = (found - wanted).numpy()
    expected = 0.5 * np.abs(gap).mean() + 3 * np.square(gap).mean()
    assert float(reconstruction_loss(found, wanted, l1=0.5, l2=3)) == pytest.approx(expected, rel=1e-5)
    logits_found, logits_wanted = torch.randn(4, 7).double(), torch.randn(4, 7).double()
    p, q = (np.exp(x.numpy()) / np.exp(x.numpy()).sum(1, keepdims=True) for x in (logits_wanted, logits_found))
    assert float(logit_divergence(logits_found, logits_wanted)) == pytest.approx((p * np.log(p / q)).sum() / 4)


def test_feature_distance_looks_at_directions() -> None:
    features = torch.randn(2, 5, 3, 3)
    assert float(feature_distance([3 * features], [features])) == pytest.approx(0, abs=1e-10)
    assert float(feature_distance([-features], [features])) == pytest.approx(4)  # opposite unit vectors are 2 apart


@pytest.mark.parametrize("layers", [(), ("network",)])
def test_the_teachers_distance_vanishes_at_the_image_and_has_a_gradient_elsewhere(layers: tuple[str, ...]) -> None:
    distance = TeacherDistance(linear_teacher(), layers, torch.zeros(1, 3, 4, 4))
    wanted = torch.rand(2, 3, 4, 4)
    assert float(distance(wanted, wanted)) == pytest.approx(0, abs=1e-6)
    found = torch.rand(2, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(distance(found, wanted), found)
    assert float(gradient.abs().max()) > 0


def test_a_layer_that_the_teacher_has_not_is_refused() -> None:
    with pytest.raises(UserError, match=r"losses\.feature_layers: the teacher has no module 'network\.layer9'"):
        TeacherDistance(linear_teacher(), ["network.layer9"], torch.zeros(1, 3, 4, 4))


class OddTeacher(LinearTeacher):
    """With a module that answers with two tensors, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        rows = pixels.flatten(1, 2)
        self.attention(rows, rows, rows)
        return super().forward(pixels)


@pytest.mark.parametrize(
    ("layer", "message"), [("attention", "gives a tuple, no batch"), ("attention.out_proj", "is not called")]
)
def test_a_layer_without_features_is_refused_before_the_first_step(layer: str, message: str) -> None:
    teacher = Teacher(OddTeacher(), num_classes=2, preprocessing="none")
    with pytest.raises(UserError, match=rf"the teacher's module 'network\.{layer}' {message}"):
        TeacherDistance(teacher, [f"network.{layer}"], torch.zeros(1, 3, 4, 4))


@given(counts=st.lists(st.integers(0, 50), min_size=2, max_size=20).filter(any))
def test_perplexity_is_between_one_and_the_codes_in_use(counts: list[int]) -> None:
    found = perplexity(torch.tensor(counts))
    assert 1 - 1e-9 <= found <= sum(count > 0 for count in counts) + 1e-9
    assert perplexity(torch.full((len(counts),), 7)) == pytest.approx(len(counts))


def test_dead_codes_are_restarted_on_latents_and_lose_their_momentum() -> None:
    codebook = nn.Parameter(torch.zeros(4, 2))
    optimiser = torch.optim.AdamW([codebook], lr=0.1)
    codebook.grad = torch.ones(4, 2)
    optimiser.step()
    before = codebook.detach().clone()
    dead = dead_codes(torch.tensor([100, 0, 1, 99]), dead_below=0.1)
    assert dead.tolist() == [False, True, True, False]
    assert dead_codes(torch.tensor([5, 1, 0]), dead_below=0).tolist() == [False, False, True]
    latents = torch.tensor([[5.0, 6.0], [7.0, 8.0], [9.0, 10.0]])
    restart_codes(codebook, dead, latents, optimiser, torch.Generator().manual_seed(0))
    assert torch.equal(codebook.detach()[[0, 3]], before[[0, 3]])
    restarted = {tuple(row) for row in codebook.detach()[[1, 2]].tolist()}
    assert len(restarted) == 2
    assert restarted < {tuple(row) for row in latents.tolist()}
    assert optimiser.state[codebook]["exp_avg"].abs().sum(dim=1).ne(0).tolist() == [True, False, False, True]


def test_more_vectors_than_latents_are_near_copies() -> None:
    latents = torch.tensor([[0.0, 0.0], [10.0, 10.0]])
    vectors = draw_vectors(latents, 9, torch.Generator().manual_seed(0))
    assert len({tuple(row) for row in vectors.tolist()}) == 9
    assert float(torch.cdist(vectors, latents).min(dim=1).values.max()) < 1


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    settings = OptimiserSettings(steps=100, learning_rate=2.0, warmup_steps=9)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == pytest.approx(2.0, rel=0.05)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 0.002
    assert rates[50] == pytest.approx(1.0)


def test_the_adversarial_terms_are_tamings() -> None:
    real, fake = torch.tensor([[2.0, 0.5]]), torch.tensor([[-3.0, 0.25]])
    assert float(discriminator_loss(real, fake)) == pytest.approx((0.5 / 2 + 1.25 / 2) / 2)
    layer = torch.ones(4, requires_grad=True)
    assert float(adversarial_weight(6 * layer.sum(), 2 * layer.sum(), layer)) == pytest.approx(3, rel=1e-4)
    torch.manual_seed(0)
    verdicts = build_discriminator(channels=8, num_layers=2)(torch.rand(2, 3, 32, 32))
    assert verdicts.shape[:2] == (2, 1)
    assert math.prod(verdicts.shape[2:]) > 1


def test_differing_fields_are_named_in_full() -> None:
    left = {"a": 1, "b": {"c": [1, 2], "d": 3}, "e": None}
    assert differing_fields(left, {**left}) == []
    assert differing_fields(left, {"a": 1, "b": {"c": [1], "d": 3, "f": 1}, "e": {"g": 1}}) == ["b.c", "b.f", "e"]


def test_the_screen_counts_from_the_step_that_a_run_goes_on_at() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=200)
    with training_screen(terminal, steps=40, batch_size=8) as screen:
        screen.loaded(1000, Counter({"truncated": 2}), first_step=10)
        screen.stepped(11, StepFigures(loss=0.25, psnr_db=21.5))
        screen.checkpointed(11, QuantizerFigures(images=50, psnr_db=22.25, codes_used=0.5, perplexity=9.0))
    assert isinstance(terminal.file, io.StringIO)
    shown = Text.from_ansi(terminal.file.getvalue()).plain
    assert "left out: 2 (truncated)" in shown
    assert "1,000 images, going on after step 10" in shown
    assert "88/320 images" in shown
    assert "step 11/40" in shown
    assert "loss 0.2500 · 21.50 dB" in shown
    assert "step 11: PSNR 22.25 dB, 50% of the codes used, perplexity 9" in shown
