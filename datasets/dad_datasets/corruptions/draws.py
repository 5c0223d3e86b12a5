"""Random numbers for a batch: each image's come from its own numpy generator, so its company changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor


def draw_each(
    generators: Sequence[np.random.Generator], draw: Callable[[np.random.Generator], npt.NDArray[np.generic]]
) -> Tensor:
    """[n, ...]: `draw` of each generator, stacked, on the CPU.

    numpy draws on the host, because torch's generators give other numbers on each kind of device.
    """
    return torch.from_numpy(np.stack([draw(generator) for generator in generators]))


def normals(generators: Sequence[np.random.Generator], *shape: int) -> Float[Tensor, "n *shape"]:
    """Standard normal numbers, float32."""
    return draw_each(generators, lambda generator: generator.standard_normal(shape, dtype=np.float32))


def uniforms(
    generators: Sequence[np.random.Generator], low: float, high: float, *shape: int
) -> Float[Tensor, "n *shape"]:
    """Uniform in [low, high), float32."""
    return draw_each(generators, lambda generator: generator.random(shape, dtype=np.float32)) * (high - low) + low
