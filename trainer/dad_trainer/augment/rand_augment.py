"""timm's RandAugment (Cubuk et al., 2020) with the operations of one's choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from dad_trainer.augment.operations import OperationName
from dad_trainer.augment.posterize import keep_a_bit


def rand_augment(
    config: str, operations: Sequence[OperationName] | None, *, fill: tuple[int, int, int]
) -> Callable[[Image.Image], Image.Image]:
    """The transform that timm's `config` describes; it draws from `random` and `np.random`.

    `operations` replace the set that `config` chooses, each as likely as any other. `fill` is the colour (0 to 255) of
    what moves in from beyond the border.
    """
    transform = rand_augment_transform(config, {"img_mean": fill}, None if operations is None else list(operations))
    keep_a_bit(transform.ops)
    return transform
