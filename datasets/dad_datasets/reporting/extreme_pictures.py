"""The pictures behind the extremes of a dataset: clean, adversarial, and what differs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dad_datasets.clean_views import CleanViews
from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index import Row, read_index
from dad_datasets.manifest import Manifest
from dad_datasets.reporting.extremes import Place
from dad_datasets.shard_reader import ShardReader, open_shard
from dad_datasets.views import Canvas


@dataclass(frozen=True, kw_only=True)
class PicturedView:
    """A stored view. `clean` is None where the source is no longer at hand."""

    row: Row
    clean: Canvas | None
    adversarial: Canvas


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Views by their place (unit, row), and why some or their clean images are missing: empty where none is."""

    views: dict[tuple[str, int], PicturedView]
    problem: str


def read_pictures(folder: Folder, manifest: Manifest, places: Iterable[Place]) -> Pictures:
    """The views at `places`, each unit opened once. A source or shard that is gone costs its pictures, nothing more."""
    wanted: dict[str, list[int]] = {}
    for place in places:
        rows = wanted.setdefault(place.unit, [])
        if place.row not in rows:
            rows.append(place.row)
    clean_views, views, problem = CleanViews(manifest), {}, ""
    for unit in sorted(wanted):
        numbers = sorted(wanted[unit])
        try:
            rows = read_index(folder, unit).take(numbers).to_pylist()
            with open_shard(folder, unit) as shard:
                adversarial = [shard.canvas(row) for row in rows]
                clean, reason = _clean(clean_views, unit, rows, shard)
        except UserError as error:
            problem = problem or str(error)
            continue
        problem = problem or reason
        for number, row, before, after in zip(numbers, rows, clean, adversarial, strict=True):
            views[unit, number] = PicturedView(row=row, clean=before, adversarial=after)
    return Pictures(views=views, problem=problem)


def _clean(
    clean_views: CleanViews, unit: str, rows: Sequence[Row], shard: ShardReader
) -> tuple[Sequence[Canvas | None], str]:
    """The clean canvases of `rows`, or None for each and the reason."""
    try:
        return clean_views.canvases(unit, rows, shard), ""
    except UserError as error:
        return [None] * len(rows), str(error)
