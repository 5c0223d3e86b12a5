"""Exact fakes for the attack: codecs whose codes are known, a linear model, images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dad_pipeline.attack import AttackResult, discrete_attack
from dad_pipeline.attack_settings import AttackSettings
from dad_pipeline.norms import NormName, l2_norm

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
