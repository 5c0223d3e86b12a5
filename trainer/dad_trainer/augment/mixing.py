"""Mixup and cutmix of neighbours in a batch: drawn on the CPU by names, applied to whole batches on any device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dad_datasets.seeding import generator_for
from dad_datasets.views import Box
from dad_trainer.augment.settings import AugmentSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixing:
    """How the images of a batch mix: number i becomes `lam[i]` of itself and 1 - `lam[i]` of number `partner[i]`."""

    partner: Int[Tensor, " n"]
    lam: Float[Tensor, " n"]
    """float32, in [0, 1]; with cutmix the share of its own pixels that an image keeps."""
    boxes: Int[Tensor, "n 4"]
    """left, top, right, bottom in pixels: what comes from the partner where `cut`; empty elsewhere."""
    cut: Bool[Tensor, " n"]
    """Cutmix rather than mixup."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Mixing:
        return self.each(lambda part: part.to(device, non_blocking=non_blocking))

    def each(self, change: Callable[[Tensor], Tensor]) -> Mixing:
        """The same of changed tensors."""
        return Mixing(
            partner=change(self.partner), lam=change(self.lam), boxes=change(self.boxes), cut=change(self.cut)
        )


def draw_mixing(settings: AugmentSettings, *, seed: int, epoch: int, keys: Sequence[str], size: int) -> Mixing | None:
    """Mixup and cutmix for a batch of square images of `size` pixels with these keys; None where both are off.

    Numbers 2j and 2j + 1 are each other's partners (an odd last image stays alone), with one draw for both, seeded by
    the key of the first: however a run is spread over processes, the same couples mix in the same way, as long as every
    part has an even number of images. The laws are those of timm's Mixup in its mode "pair".
    """
    if not (settings.mixup or settings.cutmix):
        return None
    count = len(keys)
    partner = np.arange(count)
    lam, boxes, cut = np.ones(count, np.float32), np.zeros((count, 4), np.int64), np.zeros(count, bool)
    for first in range(0, count - 1, 2):
        couple = slice(first, first + 2)
        partner[couple] = first + 1, first
        rng = generator_for(seed, epoch, keys[first], "mixing")
        lam[couple], box = _draw_couple(settings, size, rng)
        if box is not None:
            boxes[couple], cut[couple] = box, True
    return Mixing(
        partner=torch.from_numpy(partner),
        lam=torch.from_numpy(lam),
        boxes=torch.from_numpy(boxes),
        cut=torch.from_numpy(cut),
    )


def mix_images(images: Float[Tensor, "n c h w"], mixing: Mixing) -> Float[Tensor, "n c h w"]:
    """The mixed images, in the range of `images`; one call each for the clean and for the adversarial ones."""
    height, width = images.shape[-2:]
    left, top, right, bottom = mixing.boxes.T[:, :, None]
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    in_rows, in_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    outside = ~(in_rows[:, :, None] & in_columns[:, None, :])
    kept = torch.where(mixing.cut[:, None, None], outside.to(images.dtype), mixing.lam[:, None, None].to(images.dtype))
    return _blend(images, images[mixing.partner], kept[:, None])


def mix_labels(labels: Float[Tensor, "n c"], mixing: Mixing) -> Float[Tensor, "n c"]:
    """The mixed soft labels; they sum to 1 where `labels` do."""
    return _blend(labels, labels[mixing.partner], mixing.lam[:, None].to(labels.dtype))


def cut_box(lam: float, centre: tuple[int, int], size: int) -> Box:
    """The square of 1 - `lam` of an image of `size` pixels round `centre` (x, y), clipped to the image."""
    side = int(size * math.sqrt(1 - lam))
    (left, right), (top, bottom) = (
        (max(0, middle - side // 2), min(size, middle + (side + 1) // 2)) for middle in centre
    )
    return left, top, right, bottom


def _draw_couple(settings: AugmentSettings, size: int, rng: np.random.Generator) -> tuple[float, Box | None]:
    """What either image keeps of itself, and cutmix's box."""
    if rng.random() >= settings.mixing_probability:
        return 1.0, None
    with_cutmix = settings.cutmix > 0 and (settings.mixup == 0 or rng.random() < settings.switch_probability)
    if not with_cutmix:
        return float(rng.beta(settings.mixup, settings.mixup)), None
    lam = float(rng.beta(settings.cutmix, settings.cutmix))
    left, top, right, bottom = cut_box(lam, (int(rng.integers(size)), int(rng.integers(size))), size)
    return 1 - (right - left) * (bottom - top) / size**2, (left, top, right, bottom)


def _blend(own: Tensor, other: Tensor, kept: Tensor) -> Tensor:
    return own * kept + other * (1 - kept)
