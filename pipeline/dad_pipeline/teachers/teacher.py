"""The one face that every teacher shows to the attack and to the labelling."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Teacher(nn.Module):
    """Pixels in [0,1] to logits, resize and normalisation inside: frozen, in eval mode, differentiable in the pixels.

    `num_classes` is the width of the logits, `preprocessing` one line that says what is done to the pixels.
    """

    def __init__(self, network: nn.Module, *, num_classes: int, preprocessing: str) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes
        self.preprocessing = preprocessing
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Teacher:
        """Stays in eval mode whatever `mode` says: batch statistics would make a label depend on its neighbours."""
        return super().train(False)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        return self.network(pixels)
