"""From a work unit to batches of canvases: reading, decoding, drawing views and noise, all ahead of the models."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from dad_datasets.decoding import UndecodableImageError, decode_image
from dad_datasets.errors import UserError
from dad_datasets.keys import check_member_name, view_key
from dad_datasets.record import Provenance, pixels_sha256
from dad_datasets.sources import CleanSample, WorkUnit
from dad_datasets.sources.sparing_reader import UnitReader
from dad_datasets.views import Canvas, DrawnView, View, draw_view, replay
from dad_pipeline.recipe import Recipe
from dad_pipeline.sample_noise import random_directions, random_start, random_target, sample_generator


@dataclass(frozen=True, kw_only=True)
class PreparedView:
    """A view that can go to the models."""

    position: int
    """Among all views of the unit, in the order of the source."""
    provenance: Provenance
    view: View
    canvas: Canvas
    canvas_sha256: bytes
    start: npt.NDArray[np.float32] | None
    """[3, h, w] in units of epsilon; None where the attack starts at the reconstruction."""
    directions: npt.NDArray[np.float32] | None
    """[steps, 3, h, w], for the noise control alone."""
    target: int | None


@dataclass(frozen=True, kw_only=True)
class FailedView:
    """A view that cannot be used, and why."""

    position: int
    provenance: Provenance
    view_index: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ViewBatch:
    """The views of one model call, in order. Membership follows from positions in the unit, never from scheduling."""

    attack: bool
    first_of_unit: bool
    num_views: int
    """Of the prepared views and those that failed before they got here."""
    prepared: list[PreparedView]


class ViewBatches:
    """The views of one unit: iterate for batches; `failed` fills up meanwhile.

    A batch covers `batch_size` consecutive positions among the unit's attacked (or clean-only) views; a view that
    failed leaves its place empty, so that it moves no other view into another batch.
    """

    def __init__(
        self, unit: WorkUnit, source: UnitReader, recipe: Recipe, num_classes: int, *, pool: Executor, ahead: int
    ) -> None:
        self.failed: list[FailedView] = []
        self._unit, self._source, self._recipe = unit, source, recipe
        self._num_classes = num_classes
        self._pool = pool
        self._ahead = max(1, ahead // len(recipe.views.attacked))

    def __iter__(self) -> Iterator[ViewBatch]:
        size = self._recipe.compute.views_per_call
        filling: dict[bool, list[PreparedView]] = {True: [], False: []}
        positions = {True: 0, False: 0}
        attacked = self._recipe.views.attacked
        for views in self._decoded():
            for attack, view in zip(attacked, views, strict=True):
                if isinstance(view, FailedView):
                    self.failed.append(view)
                else:
                    filling[attack].append(view)
                positions[attack] += 1
                if positions[attack] % size == 0:
                    first = positions[attack] == size
                    yield ViewBatch(attack=attack, first_of_unit=first, num_views=size, prepared=filling[attack])
                    filling[attack] = []
        for attack, position in positions.items():
            if rest := position % size:
                first = position < size
                yield ViewBatch(attack=attack, first_of_unit=first, num_views=rest, prepared=filling[attack])

    def _decoded(self) -> Iterator[list[PreparedView | FailedView]]:
        """The views of each sample, decoded by the pool at most `ahead` views before they are asked for."""
        waiting: deque[Future[list[PreparedView | FailedView]]] = deque()
        for number, sample in enumerate(self._source.read(self._unit)):
            arguments = (sample, number, self._unit, self._recipe, self._num_classes)
            waiting.append(self._pool.submit(prepare_views, *arguments))
            if len(waiting) > self._ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def prepare_views(
    sample: CleanSample, number: int, unit: WorkUnit, recipe: Recipe, num_classes: int
) -> list[PreparedView | FailedView]:
    """Every view of clean sample `number` of a unit, or every one failed with the same reason."""
    kinds = list(recipe.views.each())
    source_sha256 = hashlib.sha256(sample.image).digest()
    provenances = [
        Provenance(
            key=view_key(sample.source_key, index),
            source_key=sample.source_key,
            source_shard=unit.source_shard,
            label=sample.label,
            source_sha256=source_sha256,
        )
        for index in range(len(kinds))
    ]
    try:
        image = _usable_image(sample, recipe, num_classes, provenances[-1].key)
    except UndecodableImageError as error:
        first, reason = number * len(kinds), str(error)
        return [
            FailedView(position=first + index, provenance=provenance, view_index=index, reason=reason)
            for index, provenance in enumerate(provenances)
        ]
    return [
        _prepare(image, kind, index, number * len(kinds) + index, provenance, recipe, num_classes)
        for index, (kind, provenance) in enumerate(zip(kinds, provenances, strict=True))
    ]


def _usable_image(sample: CleanSample, recipe: Recipe, num_classes: int, longest_key: str) -> Image.Image:
    if sample.problem:
        raise UndecodableImageError(sample.problem)
    if not 0 <= sample.label < num_classes:
        raise UndecodableImageError(f"label {sample.label} out of range")
    try:
        check_member_name(longest_key)
    except UserError:
        raise UndecodableImageError("key too long") from None
    return decode_image(sample.image, max_pixels=recipe.max_image_pixels)


def _prepare(
    image: Image.Image,
    kind: DrawnView,
    index: int,
    position: int,
    provenance: Provenance,
    recipe: Recipe,
    num_classes: int,
) -> PreparedView:
    key, seed = provenance.source_key, recipe.seed
    view = draw_view(kind, index, recipe.views, image.size, sample_generator(seed, key, index, "view"))
    canvas = replay(image, view)
    start = directions = target = None
    attack = recipe.attack
    extent = (recipe.views.size, recipe.views.size)
    if kind.attack and attack.random_start:
        start = random_start(sample_generator(seed, key, index, "start"), attack.norm, attack.random_start, extent)
    if kind.attack and attack.direction == "random":
        rng = sample_generator(seed, key, index, "directions")
        directions = random_directions(rng, attack.norm, attack.steps, extent)
    if kind.attack and attack.target == "random":
        target = random_target(sample_generator(seed, key, index, "target"), provenance.label, num_classes)
    return PreparedView(
        position=position,
        provenance=provenance,
        view=view,
        canvas=canvas,
        canvas_sha256=pixels_sha256(canvas),
        start=start,
        directions=directions,
        target=target,
    )


def stack_canvases(prepared: Sequence[PreparedView]) -> npt.NDArray[np.uint8]:
    """uint8 [b, 3, h, w] of the views' canvases."""
    return np.stack([view.canvas for view in prepared]).transpose(0, 3, 1, 2)
