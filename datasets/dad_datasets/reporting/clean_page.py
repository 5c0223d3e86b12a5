"""The report of a prepared clean set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from dad_datasets.decoding import UndecodableImageError, decode_image
from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index import Row, read_index
from dad_datasets.manifest import Manifest
from dad_datasets.reporting.clean_figures import CleanFigures
from dad_datasets.reporting.failures_section import failures_section
from dad_datasets.reporting.markup import Child, Markup, element
from dad_datasets.reporting.page import Section, page
from dad_datasets.reporting.picture import picture
from dad_datasets.reporting.pictures_section import class_name
from dad_datasets.reporting.quantities import size
from dad_datasets.reporting.table import facts, folded, key_figures, table
from dad_datasets.shard_reader import ShardReader, open_shard

PICTURES = 24

FIRST_CLASSES, MOST_CLASSES = 20, 2000


def clean_page(folder: Folder, manifest: Manifest, units: Sequence[str], figures: CleanFigures, *, name: str) -> bytes:
    """The page of what `dad prepare` made."""
    lead = f"{figures.images:,} clean images in {len(figures.classes.table()):,} classes, as dad prepare stored them."
    key = {
        "images": f"{figures.images:,}",
        "classes": f"{len(figures.classes.table()):,}",
        "shards": f"{figures.units:,}",
        "in all": size(figures.tar_bytes),
        "an image, mean": size(figures.image_bytes / max(1, figures.images)),
        "unusable samples": f"{figures.failed:,}",
    }
    source = manifest.recipe.get("source", {})
    pairs: dict[str, Child] = {"source": str(source.get("path", "unknown"))}
    pairs["fingerprint"] = element("code", manifest.fingerprint)
    if manifest.clean_sha256:
        pairs["sha256 of all keys and images"] = element("code", manifest.clean_sha256)
    sections = [
        Section(title="What it is", content=[facts(pairs)]),
        Section(title="Pictures", content=_pictures(folder, manifest, units)),
        Section(title="Images by class", content=_classes(manifest, figures)),
        failures_section("samples", figures.failed, figures.images + figures.failed, figures.reasons, {}),
    ]
    return page(name, "Prepared clean images", lead, [key_figures(key)], sections)


def _classes(manifest: Manifest, figures: CleanFigures) -> list[Child]:
    counted = sorted(((label, views) for label, views, *_ in figures.classes.table()), key=lambda pair: -pair[1])
    rows = [
        (class_name(manifest, label), f"{count:,}", f"{100 * count / max(1, figures.images):.2f}")
        for label, count in counted
    ]
    headings = ("class", "images", "% of all")
    content: list[Child] = [table("Usable images, the most frequent classes first", headings, rows[:FIRST_CLASSES])]
    if rest := rows[FIRST_CLASSES:MOST_CLASSES]:
        more = f"{len(rest):,} further classes"
        content.append(folded(more, table(more, headings, rest)))
    return content


def _pictures(folder: Folder, manifest: Manifest, units: Sequence[str]) -> list[Child]:
    """Images spread evenly over the shards."""
    num_units = min(PICTURES, len(units))
    shown: list[Child] = []
    for number in range(num_units):
        wanted = (PICTURES - len(shown)) // (num_units - number)
        try:
            shown += _pictures_of(folder, manifest, units[number * len(units) // num_units], wanted)
        except UserError as error:
            return [element("p", f"No pictures: {error}.", class_="note")]
    return [element("div", *shown, class_="thumbs")] if shown else [element("p", "No image is stored.")]


def _pictures_of(folder: Folder, manifest: Manifest, unit: str, count: int) -> list[Markup]:
    rows = read_index(folder, unit, ("key", "label", "status", "image_offset", "image_length"))
    rows = rows.filter(pc.equal(rows["status"], "ok"))
    count = min(count, len(rows))
    if not count:  # none of its images can be decoded, so that there may be no shard
        return []
    with open_shard(folder, unit) as shard:
        chosen = rows.take([place * len(rows) // count for place in range(count)]).to_pylist()
        return [shown for row in chosen if (shown := _thumb(manifest, shard, row)) is not None]


def _thumb(manifest: Manifest, shard: ShardReader, row: Row) -> Markup | None:
    """None where the image cannot be decoded, which `dad prepare` does not look at."""
    try:
        image = decode_image(shard.member(row, "image"))
    except UndecodableImageError:
        return None
    label = class_name(manifest, row["label"])
    return element("figure", picture(np.asarray(image), label), element("figcaption", label))
