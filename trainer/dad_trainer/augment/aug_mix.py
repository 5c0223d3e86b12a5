"""timm's AugMix (Hendrycks et al., ICLR 2020) with the operations of one's choice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from PIL import Image
from timm.data.auto_augment import AugMixAugment, augmix_ops

from dad_trainer.augment.operations import OperationName
from dad_trainer.augment.posterize import keep_a_bit

TRANSLATION = 0.3  # share of the image at magnitude 10: timm's for AugMix, the paper's is 1/3


def aug_mix(
    *,
    severity: float,
    width: int,
    depth: int | None,
    alpha: float,
    operations: Sequence[OperationName],
    fill: tuple[int, int, int],
) -> Callable[[Image.Image], Image.Image]:
    """(1 - m) x + m sum_i w_i chain_i(x), m ~ Beta(alpha, alpha), w ~ Dirichlet(alpha); from `random` and `np.random`.

    `fill` is the colour (0 to 255) of what moves in from beyond the border. timm departs from the published code in
    trifles: magnitudes from 0, not 0.1; that fill, not black; a bicubic filter half the time; the sum cut to integers.
    The consistency loss of the paper is no part of it.
    """
    settings = {"img_mean": fill, "magnitude_std": math.inf, "translate_pct": TRANSLATION}  # inf: uniform magnitudes
    chosen = augmix_ops(severity, settings, list(operations))
    keep_a_bit(chosen)
    return AugMixAugment(chosen, alpha=alpha, width=width, depth=-1 if depth is None else depth)
