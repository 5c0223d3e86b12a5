"""What an attack maximises: one value per sample, a function of the attacked model's logits."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

ObjectiveName = Literal["cross_entropy", "kl", "margin"]


def cross_entropy(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """-log softmax(z)_y, in nats: the loss of the paper and of the authors' code."""
    return F.cross_entropy(logits, labels, reduction="none")


def kl_to_clean(logits: Float[Tensor, "b c"], clean_logits: Float[Tensor, "b c"]) -> Float[Tensor, " b"]:
    """KL(softmax(clean) || softmax(adversarial)), in nats, summed over the classes: the label plays no part.

    Its gradient is 0 where both are equal, so an attack that starts at the clean image itself would stand still.
    """
    expected = clean_logits.log_softmax(dim=1)
    return F.kl_div(logits.log_softmax(dim=1), expected, reduction="none", log_target=True).sum(dim=1)


def margin(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """max_{j != y} z_j - z_y, in logits: positive exactly where the model is wrong (Carlini and Wagner, 2017)."""
    strongest_other = _without(logits, labels, -torch.inf).amax(dim=1)
    return strongest_other - logits.gather(1, labels[:, None])[:, 0]


def attack_objective(
    name: ObjectiveName,
    logits: Float[Tensor, "b c"],
    labels: Int[Tensor, " b"],
    *,
    clean_logits: Float[Tensor, "b c"] | None = None,
    targets: Int[Tensor, " b"] | None = None,
) -> Float[Tensor, " b"]:
    """The objective by name. With `targets` the prediction is drawn towards them instead of away from `labels`:
    -cross_entropy(z, t), or z_t - max_{j != t} z_j. KL needs `clean_logits`, of the attacked model, and has no target.
    """
    if name == "kl":
        assert clean_logits is not None, "the kl objective needs the model's logits on the clean image"
        assert targets is None, "the kl objective has no targeted form"
        return kl_to_clean(logits, clean_logits)
    objective = cross_entropy if name == "cross_entropy" else margin
    return objective(logits, labels) if targets is None else -objective(logits, targets)


def least_likely_target(clean_logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """The class other than the label with the lowest logit on the clean image (Kurakin et al., 2017)."""
    return _without(clean_logits, labels, torch.inf).argmin(dim=1)


def runner_up_target(clean_logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """The class other than the label with the highest logit on the clean image: the easiest to reach."""
    return _without(clean_logits, labels, -torch.inf).argmax(dim=1)


def _without(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"], value: float) -> Float[Tensor, "b c"]:
    return logits.scatter(1, labels[:, None], value)
