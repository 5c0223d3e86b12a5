"""The view a benchmark's image is fed as: shorter side resized, centre cropped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from dad_datasets.views import Canvas, ResizeName


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationView:
    """The centre of the resized image, in the order and with the rounding of torchvision's Resize and CenterCrop.

    Published numbers are made so. It is not `views.replay`, which crops first, so that a stored box means pixels of the
    decoded image; at `fraction` 1 both agree on square images.
    """

    size: int
    fraction: float = 1.0
    resize: ResizeName = "bicubic"

    def canvas(self, image: Image.Image) -> Canvas:
        """uint8 [size, size, 3] of an RGB image; an image of that size already is taken as it is at fraction 1."""
        shorter = int(self.size / self.fraction)
        width, height = image.size
        if width <= height:
            resized = (shorter, int(shorter * height / width))
        else:
            resized = (int(shorter * width / height), shorter)
        if resized != image.size:
            image = image.resize(resized, Image.Resampling[self.resize.upper()])
        left, top = (round((side - self.size) / 2) for side in image.size)
        return np.asarray(image.crop((left, top, left + self.size, top + self.size)))
