"""timm's Posterize, which asks Pillow for no bits at all at its strongest."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from timm.data import auto_augment


def keep_a_bit(operations: Sequence[auto_augment.AugmentOp]) -> None:
    """Have every Posterize among timm's `operations` leave one bit or more of each channel.

    RandAugment at magnitude 9 with noise comes to 0 bits now and then: a black image under an old Pillow, which teaches
    nothing, and a ValueError under Pillow 13, which would end the training.
    """
    for operation in operations:
        if operation.aug_fn is auto_augment.posterize:
            operation.aug_fn = _posterize


def _posterize(image: Image.Image, bits_to_keep: int, **unused: object) -> Image.Image:
    return auto_augment.posterize(image, max(1, bits_to_keep))
