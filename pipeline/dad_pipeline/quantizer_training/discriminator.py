"""The optional adversarial loss: taming's PatchGAN with its hinge loss and its balance of gradients."""

from __future__ import annotations

import torch
from jaxtyping import Float
from taming.modules.discriminator.model import NLayerDiscriminator, weights_init
from torch import Tensor, nn
from torch.nn import functional as F


def build_discriminator(*, channels: int, num_layers: int) -> nn.Module:
    """Images in [-1, 1] to one verdict per patch, large for real ones."""
    return NLayerDiscriminator(input_nc=3, ndf=channels, n_layers=num_layers).apply(weights_init)


def discriminator_loss(real: Float[Tensor, "b 1 h w"], fake: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """The hinge loss of the discriminator on its own verdicts."""
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def adversarial_weight(
    reconstruction: Float[Tensor, ""], adversarial: Float[Tensor, ""], last_layer: Tensor
) -> Float[Tensor, ""]:
    """Ratio of the two losses' gradients at the decoder's last layer (Esser et al. 2021, equation 7), at most 1e4."""
    (of_reconstruction,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (of_adversarial,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    return (of_reconstruction.norm() / (of_adversarial.norm() + 1e-4)).clamp(0, 1e4).detach()
