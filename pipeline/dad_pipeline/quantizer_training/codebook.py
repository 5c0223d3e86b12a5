"""The codebook's start from the latents, its use, and the restart of codes that nothing is near to."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def draw_vectors(latents: Float[Tensor, "m d"], count: int, generator: torch.Generator) -> Float[Tensor, "count d"]:
    """`count` of the latents at random; once they run out, copies moved by 1 % of the spread."""
    order = torch.randperm(len(latents), generator=generator)
    chosen = order[torch.arange(count) % len(order)]
    vectors = latents[chosen.to(latents.device)].clone()
    noise = torch.randn(vectors.shape, generator=generator).to(vectors)
    noise[: len(order)] = 0
    return vectors + 0.01 * latents.std(dim=0) * noise


def dead_codes(counts: Int[Tensor, " n"], *, dead_below: float) -> Bool[Tensor, " n"]:
    """The codes never chosen, or chosen less often than `dead_below` times the mean."""
    return (counts == 0) | (counts < dead_below * counts.float().mean())


@torch.no_grad()
def restart_codes(
    codebook: nn.Parameter,
    dead: Bool[Tensor, " n"],
    latents: Float[Tensor, "m d"],
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """Put the dead codes onto latents of the present batch, and forget the optimiser's momentum for them."""
    codebook[dead] = draw_vectors(latents, int(dead.sum()), generator).to(codebook)
    for name in ("exp_avg", "exp_avg_sq"):
        if name in optimiser.state[codebook]:
            optimiser.state[codebook][name][dead] = 0


def perplexity(counts: Int[Tensor, " n"]) -> float:
    """exp of the entropy of the codes' frequencies: the number of codes in equal use that would be as varied."""
    shares = counts.double() / counts.sum()
    return float(torch.exp(-torch.special.xlogy(shares, shares).sum()))
