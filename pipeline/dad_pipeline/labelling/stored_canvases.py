"""What a teacher is shown of stored views: the clean canvas, replayed or stored, and the adversarial pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from dad_datasets.decoding import UndecodableImageError, decode_image
from dad_datasets.errors import UserError
from dad_datasets.image_codec import decode_canvas
from dad_datasets.index import view_in
from dad_datasets.record import pixels_sha256
from dad_datasets.shard_reader import ShardReader
from dad_datasets.views import Canvas, replay
from dad_pipeline.labelling.labelled_set import LabelledSet

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class CanvasBatch:
    """Views of one model call by their places in the unit; `adversarial` is empty for clean-only views."""

    places: list[int]
    clean: list[Canvas]
    adversarial: list[Canvas]


def canvas_batches(
    labelled: LabelledSet, rows: Sequence[Row], batches: Iterator[list[int]], shard: ShardReader, pool: Executor
) -> Iterator[CanvasBatch]:
    """The pixels of each batch of places; the next batch is read and decoded by `pool` while one is in use.

    UserError where an image is gone, cannot be decoded, or has other pixels than those that were attacked.
    """
    waiting: _Reading | None = None
    for places in batches:
        reading = _Reading(labelled, rows, places, shard, pool)
        if waiting is not None:
            yield waiting.result()
        waiting = reading
    if waiting is not None:
        yield waiting.result()


class _Reading:
    """A batch on its way."""

    def __init__(
        self, labelled: LabelledSet, rows: Sequence[Row], places: list[int], shard: ShardReader, pool: Executor
    ) -> None:
        self._places = places
        chosen = [rows[place] for place in places]
        # Views of one image follow each other: it is decoded once for all of them.
        by_image = [list(group) for _, group in groupby(chosen, key=lambda row: row["source_key"])]
        self._clean: list[Future[list[Canvas]]] = []
        for group in by_image:
            if labelled.source is None:  # the shard is one stream: only this thread may seek in it
                contents = [shard.member(row, "clean") for row in group]
                self._clean.append(pool.submit(_stored_clean, labelled, group, contents))
            else:
                self._clean.append(pool.submit(_replayed_clean, labelled, group))
        attacked = [row for row in chosen if row["status"] == "ok"]
        self._adversarial = [
            pool.submit(_decoded, labelled, row, "image", shard.member(row, "image")) for row in attacked
        ]

    def result(self) -> CanvasBatch:
        clean = [canvas for future in self._clean for canvas in future.result()]
        return CanvasBatch(
            places=self._places, clean=clean, adversarial=[future.result() for future in self._adversarial]
        )


def _decoded(labelled: LabelledSet, row: Row, member: str, content: bytes) -> Canvas:
    try:
        canvas = decode_canvas(content)
    except UndecodableImageError as error:
        raise UserError(f"{labelled.folder.url}: the {member} of {row['key']} cannot be decoded: {error}") from None
    expected = row["image_sha256"] if member == "image" else row["canvas_sha256"]
    if pixels_sha256(canvas) != expected:
        raise UserError(f"{labelled.folder.url}: the {member} of {row['key']} has not the pixels that were written")
    return canvas


def _stored_clean(labelled: LabelledSet, rows: Sequence[Row], contents: Sequence[bytes]) -> list[Canvas]:
    return [_decoded(labelled, row, "clean", content) for row, content in zip(rows, contents, strict=True)]


def _replayed_clean(labelled: LabelledSet, rows: Sequence[Row]) -> list[Canvas]:
    """The views of one source image."""
    assert labelled.source is not None
    key = rows[0]["source_key"]
    try:
        image = decode_image(labelled.source.fetch(key), max_pixels=labelled.max_pixels)
    except KeyError:
        raise UserError(f"the clean data holds no usable image {key}: `source` in the recipe names it") from None
    except UndecodableImageError as error:
        raise UserError(f"the clean data's {key} cannot be decoded: {error}") from None
    canvases = []
    for row in rows:
        canvas = replay(image, view_in(row, size=labelled.views.size, resize=labelled.views.resize))
        if pixels_sha256(canvas) != row["canvas_sha256"]:
            raise UserError(
                f"the clean data's {key} has other pixels than those that were attacked; expected the data that the "
                "shards were made from"
            )
        canvases.append(canvas)
    return canvases
