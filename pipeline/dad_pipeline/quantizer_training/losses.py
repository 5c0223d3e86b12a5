"""The terms of the loss, each a function of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dad_datasets.errors import UserError
from dad_pipeline.teachers import Teacher


def reconstruction_loss(
    found: Float[Tensor, "b 3 h w"], wanted: Float[Tensor, "b 3 h w"], *, l1: float, l2: float
) -> Float[Tensor, ""]:
    """l1 times the mean absolute error plus l2 times the mean squared error."""
    error = found - wanted
    return l1 * error.abs().mean() + l2 * error.square().mean()


def quantisation_loss(
    latents: Float[Tensor, "b d h w"], vectors: Float[Tensor, "b d h w"], *, codebook: float, commitment: float
) -> Float[Tensor, ""]:
    """van den Oord et al. 2017, equation 3: codebook vectors go to the latents, latents to the vectors."""
    return codebook * F.mse_loss(vectors, latents.detach()) + commitment * F.mse_loss(latents, vectors.detach())


def logit_divergence(found: Float[Tensor, "b c"], wanted: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """KL(softmax(wanted) || softmax(found)) in nats, summed over classes, mean over the batch."""
    return F.kl_div(found.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True)


def feature_distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Mean squared distance of features scaled to unit length over channels, summed over layers.

    This is LPIPS (Zhang et al. 2018) without its learnt weights, and with the teacher in the place of VGG.
    """
    parts = [
        F.mse_loss(F.normalize(a, dim=1), F.normalize(b, dim=1)) * a.shape[1]
        for a, b in zip(found, wanted, strict=True)
    ]
    return torch.stack(parts).sum()


class TeacherDistance:
    """How far apart two batches look to a teacher: by the outputs of `layers`, or by its logits where there are none.

    UserError where the teacher has no such layer, or it does not make features of `pixels`, which are there to try it.
    """

    def __init__(self, teacher: Teacher, layers: Sequence[str], pixels: Float[Tensor, "b 3 h w"]) -> None:
        self.teacher = teacher
        self.layers = tuple(layers)
        self._outputs: dict[str, Tensor] = {}
        modules = dict(teacher.named_modules())
        for name in self.layers:
            if name not in modules:
                some = ", ".join(sorted(name for name in modules if 0 < name.count(".") < 2)[:8])
                raise UserError(f"losses.feature_layers: the teacher has no module {name!r}; it has {some}, ...")
            modules[name].register_forward_hook(self._keep(name))
        self._look_at_outputs(pixels)

    def __call__(self, found: Float[Tensor, "b 3 h w"], wanted: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        """Differentiable in `found` only."""
        with torch.no_grad():
            wanted_features = self._features(wanted)
        found_features = self._features(found)
        if not self.layers:
            return logit_divergence(found_features[0], wanted_features[0])
        return feature_distance(found_features, wanted_features)

    @torch.no_grad()
    def _look_at_outputs(self, pixels: Float[Tensor, "b 3 h w"]) -> None:
        self.teacher(pixels)
        for name in self.layers:
            output = self._outputs.pop(name, None)
            if not (isinstance(output, Tensor) and output.ndim > 1):
                made = "is not called" if output is None else f"gives a {type(output).__name__}, no batch of features"
                raise UserError(f"losses.feature_layers: the teacher's module {name!r} {made}; choose another")

    def _features(self, pixels: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        logits = self.teacher(pixels)
        return [self._outputs.pop(name).float() for name in self.layers] if self.layers else [logits.float()]

    def _keep(self, name: str) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._outputs[name] = output

        return hook
