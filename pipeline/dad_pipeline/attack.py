"""Discrete adversarial examples: ascent of a model's loss round a VQGAN reconstruction, snapped back to codes.

The method of Discrete Adversarial Distillation (Zhou et al., NeurIPS 2023) as its code does it, and of Discrete
Adversarial Training (Mao et al., NeurIPS 2022): with Q(x) = decode(encode(x)), maximise L(T(Q(xq + d)), y) over d in
a ball, where xq = Q(x0). Departures from the authors' code: the objective is the cross entropy of one fixed model on
the hard label unless asked otherwise; each sample tosses its own coin for the random start; the length of a gradient
never shortens a step (see `norms`); no step is undone because it fooled the teacher.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dad_pipeline.attack_settings import CenterName, GradientMode, ReencodeMode
from dad_pipeline.norms import NormName, normalise, project
from dad_pipeline.objectives import ObjectiveName, attack_objective

Model = Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b c"]]


@runtime_checkable
class DiscreteCodec(Protocol):
    """What the attack asks of a quantizer; `decode` clamps to [0, 1]."""

    def encode(self, pixels: Tensor, /) -> Tensor: ...
    def decode(self, codes: Tensor, /) -> Tensor: ...
    def straight_through(self, pixels: Tensor, /) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """An attacked batch. `pixels` = decode(`codes`); pixels are in [0, 1]."""

    codes: Int[Tensor, "b hq wq"]
    pixels: Float[Tensor, "b 3 h w"]
    vqgan_pixels: Float[Tensor, "b 3 h w"]
    """xq = Q(x0), the centre of the ball: what the VQGAN alone makes of the image."""
    vqgan_codes: Int[Tensor, "b hq wq"]
    """encode(xq), the codes of an attack that adds nothing; encode(x0) would differ from them in up to half."""
    perturbation: Float[Tensor, "b 3 h w"]
    """What was added to xq before the last encoding: within epsilon up to rounding, and xq + perturbation in [0, 1]."""
    finite: Bool[Tensor, " b"]
    """False where a gradient or a decoded pixel was NaN or infinite: the sample is not to be used."""

    def codes_changed(self) -> Float[Tensor, " b"]:
        """Share of the codes that the attack moved, in [0, 1]. For the control `reconstruction`, whose codes are
        encode(x0), it is the share that encoding the reconstruction once more moves."""
        return (self.codes != self.vqgan_codes).flatten(1).float().mean(1)


@torch.no_grad()
def discrete_attack(
    clean: Float[Tensor, "b 3 h w"],
    labels: Int[Tensor, " b"],
    *,
    model: Model,
    quantizer: DiscreteCodec,
    norm: NormName,
    epsilon: float,
    step_size: float,
    steps: int,
    reencode: ReencodeMode = "each_step",
    gradient: GradientMode = "at_reconstruction",
    objective: ObjectiveName = "cross_entropy",
    center: CenterName = "reconstruction",
    start: Float[Tensor, "b 3 h w"] | None = None,
    directions: Float[Tensor, "steps b 3 h w"] | None = None,
    clean_logits: Float[Tensor, "b c"] | None = None,
    targets: Int[Tensor, " b"] | None = None,
) -> AttackResult:
    """Attack the images `clean`, in [0, 1], each independently of its neighbours in the batch.

    `epsilon` and `step_size` are in pixel values, `start` in units of epsilon (0 where a sample has none).
    `directions`, unit steps of the noise control, take the place of the gradients: `model` is then not called.
    `clean_logits` are of `model` on `clean` (objective kl); `targets` make the attack a targeted one.
    Costs: with one step and at_reconstruction, two round trips, one more encoding and one gradient of the model.
    Autocast is the caller's. An encoder in bfloat16 rounds pixels by up to 1/1000, and a budget spread far thinner than
    that, such as `released` at 224 px, hardly reaches it.
    """
    assert not torch.is_inference_mode_enabled(), "gradients cannot be taken in inference mode: use no_grad"
    clean_codes = quantizer.encode(clean)
    xq = quantizer.decode(clean_codes).to(clean.dtype)
    vqgan_codes = quantizer.encode(xq)
    finite = _finite_samples(xq)
    if center == "clean":
        assert steps == 0, "the clean image is only ever encoded unperturbed"
        assert start is None, "the clean image is only ever encoded unperturbed"
        return AttackResult(
            codes=clean_codes,
            pixels=xq,
            vqgan_pixels=xq,
            vqgan_codes=vqgan_codes,
            perturbation=torch.zeros_like(xq),
            finite=finite,
        )

    def objective_at(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        seen = quantizer.straight_through(x) if gradient == "straight_through" else x
        logits = model(seen).to(clean.dtype)
        return attack_objective(objective, logits, labels, clean_logits=clean_logits, targets=targets)

    # x is where the gradient is taken, perturbed what the encoder is given; between re-encoded steps they differ, and
    # x - xq then holds the re-quantisation too, as in the authors' code.
    x = perturbed = xq if start is None else (xq + epsilon * start).clamp(0, 1)
    for step in range(steps):
        if directions is None:
            g, usable = _gradient(objective_at, x)
            finite &= usable
            direction = normalise(g, norm)
        else:
            direction = directions[step]
        perturbation = project(x - xq + step_size * direction, epsilon, norm)
        x = perturbed = (xq + perturbation).clamp(0, 1)
        if reencode == "each_step" and step < steps - 1:  # the last step's re-encoding is the sample itself
            x = quantizer.decode(quantizer.encode(perturbed)).to(clean.dtype)

    codes = vqgan_codes if perturbed is xq else quantizer.encode(perturbed)
    pixels = quantizer.decode(codes).to(clean.dtype)
    return AttackResult(
        codes=codes,
        pixels=pixels,
        vqgan_pixels=xq,
        vqgan_codes=vqgan_codes,
        perturbation=perturbed - xq,
        finite=finite & _finite_samples(pixels),
    )


def _gradient(
    objective_at: Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, " b"]], x: Float[Tensor, "b 3 h w"]
) -> tuple[Float[Tensor, "b 3 h w"], Bool[Tensor, " b"]]:
    """The gradient at x alone, 0 for samples where it is not finite, and which samples it is finite for."""
    at = x.detach().requires_grad_(True)
    with torch.enable_grad():
        total = objective_at(at).sum()  # a mean would tie the gradient's size to the batch size
    (g,) = torch.autograd.grad(total, at)
    usable = _finite_samples(g)
    return torch.where(usable[:, None, None, None], g, 0.0), usable


def _finite_samples(images: Float[Tensor, "b c h w"]) -> Bool[Tensor, " b"]:
    return images.isfinite().flatten(1).all(1)
