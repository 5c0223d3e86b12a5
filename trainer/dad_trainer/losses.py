"""The losses of distillation, each a pure function of logits, labels and the teacher's targets; means over the batch.

Labels are distributions over the classes [n, c], so that smoothing and mixing need no further losses. KL is summed over
the classes (torch's `batchmean`; its `mean` would divide by their number too) and multiplied by T^2, which keeps its
gradient of one size for every temperature (Hinton, Vinyals, Dean, 2015, section 2).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from dad_datasets.settings import Settings
from dad_trainer.teacher_targets import MixedTargets, TeacherTargets, divergence

LossName = Literal["ce", "kd", "dad", "dad_concat"]
AdversarialTarget = Literal["adversarial", "clean"]


class LossSettings(Settings):
    """What the student minimises."""

    name: LossName = Field("dad", description="ce: labels alone; kd: and a teacher on clean images; dad: and on both.")
    temperature: float = Field(4.0, gt=0, description="Divisor T of the logits of teacher and student in the KL terms.")
    lambda_clean: float = Field(0.5, ge=0, description="Weight of T^2 KL on clean images, in kd and dad.")
    lambda_adv: float = Field(0.5, ge=0, description="Weight of T^2 KL on adversarial images, in dad.")
    adversarial_target: AdversarialTarget = Field(
        "adversarial", description="What the KL on x' asks for in dad: the teacher's answer to x', or to the clean x."
    )
    ce_weight: float = Field(0.75, ge=0, description="Weight of the cross-entropy, in dad_concat.")
    kl_weight: float = Field(4.0, ge=0, description="Weight of the KL in dad_concat, any factor T^2 included.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of each label spread over all classes.")


def one_hot(labels: Int[Tensor, " n"], num_classes: int, smoothing: float = 0.0) -> Float[Tensor, "n {num_classes}"]:
    """Labels as distributions: 1 - smoothing on the class, smoothing spread evenly over all classes, it included."""
    spread = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    peak = torch.full((len(labels), 1), 1 - smoothing, device=labels.device)
    return spread.scatter_add(1, labels[:, None].long(), peak)


def ce(logits: Float[Tensor, "n c"], labels: Float[Tensor, "n c"]) -> Float[Tensor, ""]:
    """-sum_j y_j log softmax(z)_j, in nats."""
    precise = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.to(precise), labels.to(precise))


def kd(
    logits: Float[Tensor, "n c"],
    labels: Float[Tensor, "n c"],
    targets: TeacherTargets | MixedTargets,
    *,
    temperature: float,
    weight: float,
) -> Float[Tensor, ""]:
    """CE(s(x), y) + weight T^2 KL(t(x) || s(x)), on clean images: distillation after Hinton et al., arXiv 1503.02531.

    The CE keeps its weight of 1, as in `dad`, so that `dad` with lambda_adv = 0 is this.
    """
    return ce(logits, labels) + weight * temperature**2 * divergence(targets, logits, temperature).mean()


def dad(
    clean_logits: Float[Tensor, "n c"],
    adversarial_logits: Float[Tensor, "n c"],
    labels: Float[Tensor, "n c"],
    clean_targets: TeacherTargets | MixedTargets,
    adversarial_targets: TeacherTargets | MixedTargets,
    *,
    temperature: float,
    lambda_clean: float,
    lambda_adv: float,
    attacked: Bool[Tensor, " n"],
) -> Float[Tensor, ""]:
    """CE(s(x), y) + lambda_clean T^2 KL(t(x) || s(x)) + lambda_adv T^2 KL(t(x') || s(x')): Zhou et al., 2023.

    Where not `attacked` (a clean-only view) the last term is 0, whatever stands in that row; it is still divided by n,
    the whole batch, so that the weight of a record never depends on its neighbours. There is no CE on x'.
    """
    adversarial = divergence(adversarial_targets, adversarial_logits, temperature)
    adversarial = torch.where(attacked, adversarial, torch.zeros_like(adversarial)).mean()
    clean = kd(clean_logits, labels, clean_targets, temperature=temperature, weight=lambda_clean)
    return clean + lambda_adv * temperature**2 * adversarial


def dad_concat(
    logits: Float[Tensor, "n c"],
    labels: Float[Tensor, "n c"],
    targets: TeacherTargets | MixedTargets,
    *,
    temperature: float,
    ce_weight: float = 0.75,
    kl_weight: float = 4.0,
) -> Float[Tensor, ""]:
    """ce_weight CE + kl_weight KL over clean and adversarial images that are not paired, the authors' second form.

    No further T^2 is applied: their 4 is 0.25 T^2 at T = 4.
    """
    return ce_weight * ce(logits, labels) + kl_weight * divergence(targets, logits, temperature).mean()
