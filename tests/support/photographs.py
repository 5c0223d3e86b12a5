"""Pieces of scikit-image's photographs, square, for tests that need natural images."""

from __future__ import annotations

import numpy as np
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from dad_datasets.views import Canvas

_PIECES = (("astronaut", 80, 0), ("astronaut", 200, 230), ("chelsea", 120, 20), ("coffee", 150, 100))
_PIECE_SIDE = 256


def photographs(side: int) -> Canvas:
    """uint8 [4, side, side, 3]: 256 px pieces, resized."""
    pieces = []
    for name, left, top in _PIECES:
        whole = Image.fromarray(getattr(skimage.data, name)())
        piece = whole.crop((left, top, left + _PIECE_SIDE, top + _PIECE_SIDE))
        pieces.append(np.asarray(piece.resize((side, side), Image.Resampling.BICUBIC)))
    return np.stack(pieces)


def as_batch(canvases: Canvas) -> Tensor:
    """uint8 [n, 3, h, w] of [n, h, w, 3]."""
    return torch.from_numpy(canvases).permute(0, 3, 1, 2).contiguous()


def as_canvases(batch: Tensor) -> Canvas:
    """uint8 [n, h, w, 3] of [n, 3, h, w]."""
    return batch.permute(0, 2, 3, 1).numpy()
