"""The set that is to be labelled, with its clean images: found whole before any work."""

from __future__ import annotations

from dataclasses import dataclass

from dad_datasets.decoding import MAX_PIXELS
from dad_datasets.errors import UserError
from dad_datasets.folder import Folder, open_folder
from dad_datasets.index import ShardSummary
from dad_datasets.manifest import Manifest, read_manifest
from dad_datasets.recorded_source import recorded_source
from dad_datasets.settings import build_settings
from dad_datasets.shard_table import read_shard_table
from dad_datasets.sources import CleanSource, SourceSettings, open_source
from dad_datasets.views import ViewsSettings


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """A finished set of images; `units` are in its order."""

    folder: Folder
    manifest: Manifest
    units: tuple[ShardSummary, ...]
    views: ViewsSettings
    max_pixels: int
    source: CleanSource | None
    """None where the shards hold every clean canvas themselves."""


def open_labelled_set(url: str, source: SourceSettings | None) -> LabelledSet:
    """The set in the folder `url`. `source` None: the shards' own clean canvases, else what it was generated from.

    UserError unless a finished set of images is there, and its clean images can be opened.
    """
    folder = open_folder(url)
    manifest = read_manifest(folder)
    if manifest.kind != "adversarial":
        raise UserError(f"{url} holds {manifest.kind} shards; dad label reads what dad generate made")
    if manifest.recipe["store"]["image"] == "none":
        raise UserError(f"{url} holds codes and no images; decode it with `dad expand` first")
    if manifest.state != "finished":
        raise UserError(f"{url} is not finished: run `dad generate` again to go on, then label it")
    views = build_settings(ViewsSettings, manifest.recipe["views"], origin=f"{url}: its recipe's views")
    units = tuple(read_shard_table(folder))
    stored = manifest.recipe["store"].get("clean", False) and not any(unit.clean_only for unit in units)
    return LabelledSet(
        folder=folder,
        manifest=manifest,
        units=units,
        views=views,
        max_pixels=manifest.recipe.get("max_image_pixels", MAX_PIXELS),
        source=None if stored and source is None else _opened(source, manifest, url),
    )


def _opened(source: SourceSettings | None, manifest: Manifest, url: str) -> CleanSource:
    if source is not None:
        return open_source(source)
    try:
        return open_source(recorded_source(manifest, origin="source"))
    except UserError as error:
        raise UserError(
            f"{url}: the clean images that it was made from cannot be opened: name them with `source` in the recipe "
            f"({error})"
        ) from None
