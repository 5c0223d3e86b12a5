"""The training images, decoded once and held in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from dad_datasets.decoding import UndecodableImageError, decode_image
from dad_datasets.errors import UserError
from dad_datasets.seeding import generator_for
from dad_datasets.sources import CleanSource
from dad_datasets.views import CentreView, View, replay

SAMPLES_PER_READ = 1000


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images of one size with their labels (-1 where unknown)."""

    pixels: UInt8[Tensor, "n 3 s s"]
    labels: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Int[Tensor, " m"]) -> ImageSet:
        return ImageSet(pixels=self.pixels[indices], labels=self.labels[indices])


def load_images(source: CleanSource, *, size: int, max_images: int | None) -> tuple[ImageSet, Counter[str]]:
    """The centred squares of a source's images at `size` pixels, and how many were left out for which reason."""
    canvases: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = []
    labels: list[int] = []
    problems: Counter[str] = Counter()
    samples = (sample for unit in source.plan(SAMPLES_PER_READ) for sample in source.read(unit))
    for sample in samples:
        if max_images is not None and len(canvases) == max_images:
            break
        if sample.problem:
            problems[sample.problem] += 1
            continue
        try:
            image = decode_image(sample.image)
        except UndecodableImageError as error:
            problems[str(error)] += 1
            continue
        box, flip = CentreView().draw(*image.size, size, generator_for(0))
        canvases.append(replay(image, View(index=0, box=box, size=size, resize="bicubic", flip=flip)))
        labels.append(sample.label)
    if not canvases:
        raise UserError("source: holds no usable image")
    pixels = torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2).contiguous()
    return ImageSet(pixels=pixels, labels=torch.tensor(labels)), problems


def hold_back(images: ImageSet, count: int, *, seed: int) -> tuple[ImageSet, ImageSet]:
    """(training, validation): `count` random images held back. UserError where not more than `count` are there."""
    if len(images) <= count:
        raise UserError(f"validation_images = {count}: must be less than the {len(images)} images of the source")
    order = torch.from_numpy(generator_for(seed, "validation").permutation(len(images)))
    return images.take(order[count:].sort().values), images.take(order[:count].sort().values)


class Batches:
    """Batch number `step` as a pure function of (seed, step), so that a resumed run goes on with the very next one."""

    def __init__(self, images: ImageSet, *, batch_size: int, seed: int, crop_padding: int = 0) -> None:
        if len(images) < batch_size:
            raise UserError(f"optimiser.batch_size = {batch_size}: must be at most the {len(images)} training images")
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.crop_padding = crop_padding
        self.per_epoch = len(images) // batch_size
        self._order = (-1, torch.empty(0, dtype=torch.int64))

    def __call__(self, step: int) -> Float[Tensor, "b 3 s s"]:
        """Pixels in [0, 1]; each image mirrored with probability 1/2, shifted by up to `crop_padding` over black."""
        epoch, place = divmod(step, self.per_epoch)
        if self._order[0] != epoch:
            permutation = generator_for(self.seed, "epoch", epoch).permutation(len(self.images))
            self._order = (epoch, torch.from_numpy(permutation))
        chosen = self._order[1][place * self.batch_size : (place + 1) * self.batch_size]
        pixels = self.images.pixels[chosen].float() / 255
        mirrored = torch.from_numpy(generator_for(self.seed, "mirror", step).random(len(pixels)) < 0.5)
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
        if not self.crop_padding:
            return pixels
        shifts = generator_for(self.seed, "crop", step).integers(0, 2 * self.crop_padding + 1, (len(pixels), 2))
        return shifted_crops(pixels, torch.from_numpy(shifts), self.crop_padding)


def shifted_crops(
    pixels: Float[Tensor, "b 3 s s"], corners: Int[Tensor, "b 2"], padding: int
) -> Float[Tensor, "b 3 s s"]:
    """Each image's s x s crop at its corner (top, left), both in 0..2 padding, of the image padded with black."""
    size = pixels.shape[-1]
    padded = functional.pad(pixels, (padding,) * 4)
    crops = [
        image[:, top : top + size, left : left + size]
        for image, (top, left) in zip(padded, corners.tolist(), strict=True)
    ]
    return torch.stack(crops)
