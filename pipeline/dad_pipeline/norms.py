"""The two balls that bound a perturbation, l2 and linf, each sample of a batch for itself."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

NormName = Literal["l2", "linf"]


def l2_norm(images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Euclidean length of each sample over all channels and pixels, in units of the full pixel range."""
    return torch.linalg.vector_norm(images.flatten(1), dim=1)


def linf_norm(images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Largest absolute value of each sample, in units of the full pixel range."""
    return images.abs().flatten(1).amax(1)


def normalise(gradient: Float[Tensor, "b c h w"], norm: NormName) -> Float[Tensor, "b c h w"]:
    """The direction of steepest ascent inside the unit ball: g / ||g||_2 for l2, sign(g) for linf; 0 where g is 0.

    Departure from the authors' g / (||g||_2 + 1e-10): their constant shortens the step of a confident model, whose
    gradient can be that small. Here the length of the gradient never matters, so long as float32 can hold it.
    """
    if norm == "linf":
        return gradient.sign()
    smallest = torch.finfo(gradient.dtype).tiny
    # Scaled to a largest entry of 1 first: the square of a gradient of 1e-23 is 0 in float32.
    scaled = gradient / _per_sample(linf_norm(gradient).clamp_min(smallest))
    return scaled / _per_sample(l2_norm(scaled).clamp_min(smallest))


def project(perturbation: Float[Tensor, "b c h w"], epsilon: float, norm: NormName) -> Float[Tensor, "b c h w"]:
    """The nearest point (in l2) of the ball of radius `epsilon` round 0; a perturbation inside it stays as it is."""
    if norm == "linf":
        return perturbation.clamp(-epsilon, epsilon)
    smallest = torch.finfo(perturbation.dtype).tiny
    shrink = (epsilon / l2_norm(perturbation).clamp_min(smallest)).clamp_max(1.0)
    return perturbation * _per_sample(shrink)


def _per_sample(values: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1 1"]:
    return values[:, None, None, None]
