"""The clean canvas behind a stored view: from the shard where it is kept, else from the source, replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from dad_datasets.decoding import UndecodableImageError, decode_image
from dad_datasets.errors import UserError
from dad_datasets.index import view_in
from dad_datasets.manifest import Manifest
from dad_datasets.record import pixels_sha256
from dad_datasets.recorded_source import recorded_source
from dad_datasets.shard_reader import ShardReader
from dad_datasets.sources import CleanSource, WorkUnit, open_source
from dad_datasets.views import Canvas, View, replay


class CleanViews:
    """Clean canvases of a dataset's views; the source is opened when first needed."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._source: CleanSource | None = None

    def canvases(self, unit: str, rows: Sequence[Mapping[str, Any]], shard: ShardReader | None) -> list[Canvas]:
        """The clean canvas of each of `rows` of one unit. UserError where the source is gone or has changed."""
        if shard is not None and rows and "clean_offset" in rows[0]:
            return [shard.canvas(row, "clean") for row in rows]
        return self._replayed(unit, rows)

    def _replayed(self, unit: str, rows: Sequence[Mapping[str, Any]]) -> list[Canvas]:
        wanted = {row["source_key"] for row in rows}
        source, work = self._find(unit)
        images: dict[str, Image.Image] = {}
        for sample in source.read(work):
            if len(images) == len(wanted):
                break
            if sample.source_key in wanted:
                try:
                    images[sample.source_key] = decode_image(sample.image)
                except UndecodableImageError:
                    continue
        canvases = []
        for row in rows:
            if row["source_key"] not in images:
                raise UserError(f"the source no longer holds a usable {row['source_key']}")
            canvas = replay(images[row["source_key"]], self._view(row))
            if pixels_sha256(canvas) != row["canvas_sha256"]:
                raise UserError(f"{row['source_key']}: the source's image is not the one that was attacked")
            canvases.append(canvas)
        return canvases

    def _view(self, row: Mapping[str, Any]) -> View:
        views = self._manifest.recipe["views"]
        return view_in(row, size=views["size"], resize=views["resize"])

    def _find(self, unit: str) -> tuple[CleanSource, WorkUnit]:
        recipe = self._manifest.recipe
        if self._source is None:
            self._source = open_source(recorded_source(self._manifest, origin="the dataset's source"))
        for work in self._source.plan(recipe["samples_per_shard"]):
            if work.name == unit:
                return self._source, work
        raise UserError(f"the source {recipe['source']['path']} no longer has the samples of unit {unit}")
