"""Several teachers as one: the weighted mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dad_datasets.errors import UserError
from dad_pipeline.teachers.teacher import Teacher


class MeanProbabilities(nn.Module):
    """log sum_i w_i softmax(z_i), with weights w_i > 0 that sum to 1.

    Probabilities are averaged, not logits: teachers of different kinds have logits of different scale, and the sharpest
    would outvote the others. The output's softmax is the mean itself, so a loss sees the mean's log-probabilities.
    """

    log_weights: Tensor

    def __init__(self, members: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        assert len(members) == len(weights)
        assert all(weight > 0 for weight in weights)
        self.members = nn.ModuleList(members)
        shares = torch.tensor(weights, dtype=torch.float64)
        self.register_buffer("log_weights", (shares / shares.sum()).log().float())

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        members = torch.stack([member(pixels).float().log_softmax(-1) for member in self.members])
        return (members + self.log_weights.float()[:, None, None]).logsumexp(0)


def make_ensemble(members: Sequence[Teacher], weights: Sequence[float] | None) -> Teacher:
    """`weights` need not sum to 1; None means equal. UserError where the members' numbers of classes differ."""
    sizes = [member.num_classes for member in members]
    if len(set(sizes)) > 1:
        raise UserError(f"teacher.members: they have different numbers of classes: {', '.join(map(str, sizes))}")
    network = MeanProbabilities(members, weights or [1.0] * len(members))
    preprocessing = " | ".join(member.preprocessing for member in members)
    return Teacher(network, num_classes=sizes[0], preprocessing=preprocessing)
