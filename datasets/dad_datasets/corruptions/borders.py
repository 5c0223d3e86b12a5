"""What lies beyond an image's border, for margins of any width."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

Border = Literal["edge", "reflect", "symmetric"]
"""numpy's names: a|abc|c (scipy's nearest), cb|abc|ba (OpenCV's reflect-101), ba|abc|cb (scipy's reflect)."""


def border_index(size: int, margin: int, border: Border) -> npt.NDArray[np.int64]:
    """[size + 2 margin]: for each position of the extended axis, the pixel that it repeats."""
    return np.pad(np.arange(size), margin, mode=border)


def extend(images: Float[Tensor, "n c h w"], margin: int, border: Border) -> Float[Tensor, "n c H W"]:
    """The images with `margin` pixels added on each side. Unlike torch's padding, the margin may exceed the image."""
    rows, columns = (torch.from_numpy(border_index(size, margin, border)) for size in images.shape[2:])
    return images.index_select(2, rows.to(images.device)).index_select(3, columns.to(images.device))
