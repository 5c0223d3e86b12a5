"""Views: what the teacher sees of a clean image, as parameters that give the same pixels again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import Field, field_validator

from dad_datasets.decoding import MAX_PIXELS
from dad_datasets.errors import UserError
from dad_datasets.settings import Settings

Canvas = npt.NDArray[np.uint8]
"""uint8 [size, size, 3], RGB: a view's pixels."""

LARGEST_SIDE = 8192
"""Of a canvas, in pixels."""

LARGEST_BOX = 2 * MAX_PIXELS
"""In pixels: the largest image that Pillow decodes at all."""

ResizeName = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels of the decoded image; may reach beyond it, over black."""


@dataclass(frozen=True, kw_only=True)
class View:
    """The parameters of one view: `replay` turns them and the decoded image into its canvas."""

    index: int
    box: Box
    size: int
    resize: ResizeName
    flip: bool


def replay(image: Image.Image, view: View) -> Canvas:
    """The canvas of `view`: integer crop, resize (antialiased by Pillow), mirror; bit for bit the same each time.

    Crop-then-resize is not `resize(box=...)`: there the filter would see pixels beyond the box. UserError for a box
    without pixels, and for one over LARGEST_BOX: it may reach far beyond the image.
    """
    left, top, right, bottom = view.box
    if right <= left or bottom <= top or (right - left) * (bottom - top) > LARGEST_BOX:
        raise UserError(f"view {view.index}: no canvas has the box {view.box}")
    cropped = image.crop(view.box)
    if cropped.size != (view.size, view.size):
        cropped = cropped.resize((view.size, view.size), Image.Resampling[view.resize.upper()])
    if view.flip:
        cropped = cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(cropped)


class _DrawnView(Settings):
    count: int = Field(1, ge=1, le=1000, description="How many views of this kind each image gets.")
    attack: bool = Field(True, description="Whether the view is attacked; if not, only logits are stored.")


class CentreView(_DrawnView):
    """The centred square, the evaluation view: `fraction` 0.875 is resize-256-crop-224 in one crop."""

    kind: Literal["centre"] = "centre"
    count: Literal[1] = Field(1, description="One: further centre views would be equal.")
    fraction: float = Field(1.0, gt=0, le=1, description="Side of the square as a share of the image's shorter side.")

    def draw(self, width: int, height: int, size: int, rng: np.random.Generator) -> tuple[Box, bool]:
        side = max(1, round(self.fraction * min(width, height)))
        left, top = (width - side) // 2, (height - side) // 2
        return (left, top, left + side, top + side), False


class RandomResizedCropView(_DrawnView):
    """Inception's crop, as torchvision's RandomResizedCrop draws it: a random share of the area, at a random ratio."""

    kind: Literal["random_resized_crop"] = "random_resized_crop"
    scale: tuple[float, float] = Field((0.08, 1.0), description="Range of the share of the image's area.")
    ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="Range of width over height.")
    flip_probability: float = Field(0.5, ge=0, le=1, description="Probability of mirroring left and right.")

    @field_validator("scale", "ratio")
    @classmethod
    def _is_a_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("expected [low, high] with 0 < low <= high")
        return value

    @field_validator("scale")
    @classmethod
    def _is_a_share(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[1] > 1:
            raise ValueError("expected shares of at most 1")
        return value

    def draw(self, width: int, height: int, size: int, rng: np.random.Generator) -> tuple[Box, bool]:
        box = self._draw_box(width, height, rng)
        return box, bool(rng.random() < self.flip_probability)

    def _draw_box(self, width: int, height: int, rng: np.random.Generator) -> Box:
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = width * height * rng.uniform(*self.scale)
            aspect = math.exp(rng.uniform(low, high))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
                return left, top, left + w, top + h
        # No draw fitted: the largest centred crop within the range of ratios, as torchvision falls back.
        aspect = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = max(1, min(width, round(height * aspect))), max(1, min(height, round(width / aspect)))
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h


class PadCropView(_DrawnView):
    """The small-image crop: the square moved by up to `padding` output pixels over a black border."""

    kind: Literal["pad_crop"] = "pad_crop"
    padding: int = Field(4, ge=0, description="Border on each side, in pixels of the canvas.")
    flip_probability: float = Field(0.5, ge=0, le=1, description="Probability of mirroring left and right.")

    def draw(self, width: int, height: int, size: int, rng: np.random.Generator) -> tuple[Box, bool]:
        side = min(width, height)
        border = round(self.padding * side / size)
        left = int(rng.integers(-border, width - side + border + 1))
        top = int(rng.integers(-border, height - side + border + 1))
        return (left, top, left + side, top + side), bool(rng.random() < self.flip_probability)


DrawnView = Annotated[CentreView | RandomResizedCropView | PadCropView, Field(discriminator="kind")]


class ViewsSettings(Settings):
    """Which views each image gets, and the size of their canvas."""

    size: int = Field(
        ge=1, le=LARGEST_SIDE, description="Side of the canvas in pixels; a multiple of the quantizer's factor."
    )
    resize: ResizeName = Field("bicubic", description="Pillow's filter for the resize.")
    draw: tuple[DrawnView, ...] = Field((CentreView(),), min_length=1, description="The kinds of view, in order.")

    def each(self) -> Iterator[DrawnView]:
        """The kind of each view, in the order of the views' numbers."""
        for drawn in self.draw:
            for _ in range(drawn.count):
                yield drawn

    @property
    def attacked(self) -> tuple[bool, ...]:
        """For each view number, whether the view is attacked."""
        return tuple(drawn.attack for drawn in self.each())


def draw_view(
    kind: DrawnView, index: int, settings: ViewsSettings, image_size: tuple[int, int], rng: np.random.Generator
) -> View:
    """View number `index` of an image of `image_size` (width, height), drawn from the sample's own generator."""
    box, flip = kind.draw(*image_size, settings.size, rng)
    return View(index=index, box=box, size=settings.size, resize=settings.resize, flip=flip)
