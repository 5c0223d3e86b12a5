"""Mixup and cutmix as a loop over images."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from dad_trainer.augment import Mixing


def mix_one_by_one(images: npt.NDArray[Any], mixing: Mixing) -> npt.NDArray[Any]:
    mixed = images.copy()
    for i in range(len(images)):
        partner = images[int(mixing.partner[i])]
        if mixing.cut[i]:
            left, top, right, bottom = mixing.boxes[i].tolist()
            mixed[i][:, top:bottom, left:right] = partner[:, top:bottom, left:right]
        else:
            lam = images.dtype.type(mixing.lam[i].item())
            mixed[i] = images[i] * lam + partner * (1 - lam)
    return mixed


def mix_rows_one_by_one(rows: npt.NDArray[Any], mixing: Mixing) -> npt.NDArray[Any]:
    """Distributions over classes."""
    mixed = rows.copy()
    for i in range(len(rows)):
        lam = mixing.lam[i].item()
        mixed[i] = lam * rows[i] + (1 - lam) * rows[int(mixing.partner[i])]
    return mixed
