"""What is measured of a student's answers: accuracy, log-likelihood, calibration, mean corruption error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

CALIBRATION_BINS = 15


def group_logits(logits: Float[Tensor, "n c"], groups: Sequence[Sequence[int]]) -> Float[Tensor, "n g"]:
    """The highest logit of each group of classes; classes in no group are left out, so also of any later softmax.

    Groups of one class each are a class mask (ImageNet-A, -R); larger ones are classes of a coarser benchmark
    (ObjectNet), whose arg max is right exactly where the best of all grouped classes belongs to the label.
    """
    assert groups, "at least one group"
    assert all(groups), "no empty group"
    widest = max(map(len, groups))
    # Shorter groups repeat their first class: a maximum does not notice.
    padded = [[*group, *[group[0]] * (widest - len(group))] for group in groups]
    return logits[:, torch.tensor(padded, device=logits.device)].amax(dim=2)


def in_top_k(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"], k: int) -> Bool[Tensor, " n"]:
    """Whether the label is among the k highest logits. Among equal ones torch's topk decides: none counts twice."""
    return (logits.topk(k, dim=1).indices == labels[:, None]).any(dim=1)


def negative_log_likelihood(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """-log softmax(z)_y, in nats."""
    return F.cross_entropy(logits, labels, reduction="none")


def confidence(logits: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """The probability of the predicted class, in (0, 1]."""
    return logits.softmax(dim=1).amax(dim=1)


def calibration_error(
    confidences: Float[Tensor, " n"], correct: Bool[Tensor, " n"], *, num_bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error of the top label, in [0, 1] (Guo et al., ICML 2017, equations 2 to 5).

    sum over bins of |B|/n |accuracy(B) - mean confidence(B)|, bin m of M holding the confidences in ((m-1)/M, m/M].
    """
    assert len(confidences) > 0, "no image, no calibration"
    confidences = confidences.double().cpu()
    inner_edges = torch.arange(1, num_bins, dtype=torch.float64) / num_bins
    bins = torch.bucketize(confidences, inner_edges)
    gaps = torch.zeros(num_bins, dtype=torch.float64).index_add_(0, bins, correct.cpu().double() - confidences)
    return float(gaps.abs().sum() / len(confidences))


def mean_corruption_error(errors: Mapping[str, Sequence[float]], references: Mapping[str, float]) -> float:
    """mCE of Hendrycks & Dietterich (ICLR 2019): the mean over corruptions c of sum_s E_sc / sum_s R_sc.

    `errors` are top-1 errors at each severity, `references` the reference model's, each the mean over the same
    severities; 1 is as bad as the reference. Only the corruptions in `references` count, and each must be in `errors`.
    """
    ratios = [sum(errors[name]) / (len(errors[name]) * reference) for name, reference in references.items()]
    return sum(ratios) / len(ratios)
