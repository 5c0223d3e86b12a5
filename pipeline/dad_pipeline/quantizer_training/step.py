"""One optimiser step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dad_pipeline.quantizer import Quantizer
from dad_pipeline.quantizer_training.codebook import dead_codes, draw_vectors, restart_codes
from dad_pipeline.quantizer_training.discriminator import adversarial_weight, discriminator_loss
from dad_pipeline.quantizer_training.losses import TeacherDistance, quantisation_loss, reconstruction_loss
from dad_pipeline.quantizer_training.settings import OptimiserSettings, QuantizerRecipe
from dad_pipeline.quantizer_training.state import TrainingState, torch_seed


@dataclass(frozen=True, kw_only=True)
class StepFigures:
    """Of one batch: the loss that was minimised, and 10 log10(1 / mean squared error) in dB."""

    loss: float
    psnr_db: float


def training_step(
    state: TrainingState, pixels: Float[Tensor, "b 3 s s"], recipe: QuantizerRecipe, distance: TeacherDistance | None
) -> StepFigures:
    """Move `state` on by one step over `pixels` in [0, 1].

    FloatingPointError, with `state` no longer of use, where a loss or its gradient is not a finite number.
    """
    weights = recipe.losses
    # One seed a step, for dropout and restarts: a resumed run needs no saved random state.
    torch.manual_seed(torch_seed(recipe.seed, "step", state.step))
    state.quantizer.train()
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(state.step, recipe.optimiser)
    mixed = torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16")

    with mixed:
        latents = state.quantizer.latents(pixels)
    latents = latents.float()
    vectors, loss = _quantise(state, latents, recipe)
    with mixed:
        found = state.quantizer.render(vectors)
    reconstruction = reconstruction_loss(found, pixels, l1=weights.l1, l2=weights.l2)
    if distance is not None:
        with mixed:
            reconstruction = reconstruction + weights.feature * distance(found, pixels)
    loss = loss + reconstruction
    adversary = recipe.discriminator
    joined = adversary is not None and state.step >= adversary.start_step
    if adversary is not None and joined:
        assert state.discriminator is not None
        state.discriminator.requires_grad_(False)
        adversarial = -state.discriminator(found * 2 - 1).mean()
        balance = adversarial_weight(reconstruction, adversarial, state.quantizer.decoder.conv_out.weight)
        loss = loss + adversary.weight * balance * adversarial

    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.quantizer.parameters(), recipe.optimiser.clip_norm)
    _require_finite(loss, norm, of="quantizer")
    state.optimiser.step()
    if joined:
        _teach_discriminator(state, pixels, found.detach())
    state.step += 1
    _restart(state, latents.detach(), recipe)
    if state.averaged is not None:
        _average(state.averaged, state.quantizer, decay=recipe.optimiser.ema_decay or 0.0, step=state.step)
    mean_squared_error = float(F.mse_loss(found.detach().clamp(0, 1), pixels))
    return StepFigures(loss=float(loss.detach()), psnr_db=-10 * math.log10(max(mean_squared_error, 1e-10)))


def learning_rate(step: int, settings: OptimiserSettings) -> float:
    """The rate of step number `step` (from 0): a linear warm-up, then half a cosine that would be zero at `steps`."""
    warmup = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    return settings.learning_rate * warmup * (1 + math.cos(math.pi * step / settings.steps)) / 2


def _quantise(
    state: TrainingState, latents: Float[Tensor, "b d h w"], recipe: QuantizerRecipe
) -> tuple[Float[Tensor, "b d h w"], Float[Tensor, ""]]:
    """What the decoder gets, with the gradient copied to the latents, and the quantisation loss."""
    start, quantizer = recipe.codebook.continuous_steps, state.quantizer
    if state.step < start:
        return latents, latents.new_zeros(())
    if state.step == start:
        generator = torch.Generator().manual_seed(torch_seed(recipe.seed, "codebook"))
        quantizer.codebook.data.copy_(draw_vectors(_rows(latents.detach()), quantizer.num_codes, generator))
        if state.averaged is not None:
            state.averaged.codebook.data.copy_(quantizer.codebook.data)
    codes = quantizer.codes(latents)
    state.counts += torch.bincount(codes.flatten(), minlength=quantizer.num_codes)
    vectors = quantizer.embed(codes)
    loss = quantisation_loss(latents, vectors, codebook=recipe.losses.codebook, commitment=recipe.losses.commitment)
    return vectors.detach() + (latents - latents.detach()), loss


def _restart(state: TrainingState, latents: Float[Tensor, "b d h w"], recipe: QuantizerRecipe) -> None:
    settings = recipe.codebook
    since_start = state.step - settings.continuous_steps
    if since_start <= 0 or since_start % settings.restart_every:
        return
    if state.step <= settings.restart_until * recipe.optimiser.steps:
        dead = dead_codes(state.counts, dead_below=settings.dead_below)
        generator = torch.Generator().manual_seed(torch_seed(recipe.seed, "restart", state.step))
        codebook = state.quantizer.codebook
        assert isinstance(codebook, nn.Parameter)
        restart_codes(codebook, dead, _rows(latents), state.optimiser, generator)
        if state.averaged is not None:
            state.averaged.codebook.data[dead] = codebook.data[dead]
    state.counts.zero_()


def _teach_discriminator(state: TrainingState, real: Float[Tensor, "b 3 s s"], fake: Float[Tensor, "b 3 s s"]) -> None:
    discriminator, optimiser = state.discriminator, state.discriminator_optimiser
    assert discriminator is not None
    assert optimiser is not None
    discriminator.requires_grad_(True)
    loss = discriminator_loss(discriminator(real * 2 - 1), discriminator(fake * 2 - 1))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.get_total_norm([p.grad for p in discriminator.parameters() if p.grad is not None])
    _require_finite(loss, norm, of="discriminator")
    optimiser.step()


def _require_finite(loss: Float[Tensor, ""], norm: Float[Tensor, ""], *, of: str) -> None:
    if not (loss.isfinite() & norm.isfinite()):
        raise FloatingPointError(f"the {of}'s loss or its gradient is not a finite number")


@torch.no_grad()
def _average(averaged: Quantizer, quantizer: Quantizer, *, decay: float, step: int) -> None:
    """Exponential average whose decay grows to `decay`, so that the initial weights are soon forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(averaged.parameters(), quantizer.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)


def _rows(latents: Float[Tensor, "b d h w"]) -> Float[Tensor, "m d"]:
    return latents.permute(0, 2, 3, 1).flatten(0, 2)
