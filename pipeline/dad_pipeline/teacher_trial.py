"""A look at the teacher before the run: its accuracy on clean images, and on what the VQGAN makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dad_datasets.decoding import UndecodableImageError, decode_image
from dad_datasets.sources import CleanSample, CleanSource, WorkUnit
from dad_datasets.sources.sparing_reader import spared
from dad_datasets.views import Canvas, CentreView, draw_view, replay
from dad_pipeline.adversarial_views import to_canvases, to_pixels
from dad_pipeline.models import Models, precision, quantizer_precision
from dad_pipeline.recipe import Recipe
from dad_pipeline.teachers.check import TeacherCheck, count_hits, teacher_check

UNITS_LOOKED_AT = 8
"""Sources may be sorted by class, so the images come from the beginnings of units spread over the whole source."""


@dataclass(frozen=True, kw_only=True)
class TeacherTrial:
    """The teacher against guessing, on centre views and on their round trip through the VQGAN."""

    clean: TeacherCheck
    after_vqgan: TeacherCheck


def try_teacher(models: Models, recipe: Recipe, source: CleanSource, units: Sequence[WorkUnit]) -> TeacherTrial | None:
    """Score about `recipe.check.samples` images; None where none is asked for or none is usable."""
    if not recipe.check.samples or not units:
        return None
    spread = units[:: max(1, len(units) // UNITS_LOOKED_AT)][:UNITS_LOOKED_AT]
    share = -(-recipe.check.samples // len(spread))
    samples = [sample for unit in spread for sample in islice(source.read(unit), share)]
    # This process has the whole run on it: no image may take it down.
    unharmful = spared(samples, max_pixels=recipe.max_image_pixels)
    views = list(_centre_views(unharmful, recipe, models.teacher.num_classes))
    if not views:
        return None

    def after_vqgan(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        with quantizer_precision(recipe.compute, models.device):
            decoded = models.quantizer.decode(models.quantizer.encode(pixels))
        return models.teacher(to_pixels(to_canvases(decoded), models.device))

    num_classes = models.teacher.num_classes
    with torch.no_grad(), precision(recipe.compute, models.device):
        clean = count_hits(models.teacher, _batches(views, recipe, models.device))
        vqgan = count_hits(after_vqgan, _batches(views, recipe, models.device))
    return TeacherTrial(clean=teacher_check(*clean, num_classes), after_vqgan=teacher_check(*vqgan, num_classes))


def _centre_views(samples: Iterable[CleanSample], recipe: Recipe, num_classes: int) -> Iterator[tuple[Canvas, int]]:
    centre, unused = CentreView(), np.random.default_rng(0)
    for sample in samples:
        if sample.problem or not 0 <= sample.label < num_classes:
            continue
        try:
            image = decode_image(sample.image, max_pixels=recipe.max_image_pixels)
        except UndecodableImageError:
            continue
        yield replay(image, draw_view(centre, 0, recipe.views, image.size, unused)), sample.label


def _batches(
    views: Sequence[tuple[Canvas, int]], recipe: Recipe, device: torch.device
) -> Iterator[tuple[Float[Tensor, "b 3 h w"], Int[Tensor, " b"]]]:
    size = recipe.compute.views_per_call
    for start in range(0, len(views), size):
        chosen = views[start : start + size]
        canvases = np.stack([canvas for canvas, _ in chosen]).transpose(0, 3, 1, 2)
        yield to_pixels(canvases, device), torch.tensor([label for _, label in chosen], device=device)
