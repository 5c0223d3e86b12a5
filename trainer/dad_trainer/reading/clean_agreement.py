"""Whether clean data is that from which a dataset was made, as far as their descriptions tell."""

from __future__ import annotations

from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.manifest import Manifest, read_manifest
from dad_datasets.shard_table import read_shard_table
from dad_datasets.sources import CleanSource
from dad_datasets.sources.prepared import PreparedShards


def check_classes(source: CleanSource, name: str, manifest: Manifest) -> None:
    """UserError where the source counts its classes otherwise than the dataset does.

    Names are compared where the dataset took its own from the source; a recipe may have given better ones.
    """
    here, there = source.class_names, manifest.class_names
    if here is None or there is None:
        return
    if len(here) != len(there):
        raise UserError(f"clean data {name}: has {len(here)} classes, the shards were made with {len(there)}")
    if manifest.recipe.get("class_names") is not None:
        return
    for label, (ours, theirs) in enumerate(zip(here, there, strict=True)):
        if ours != theirs:
            raise UserError(
                f"clean data {name}: class {label} is {ours!r}, but {theirs!r} in the shards: labels would be mixed up"
            )


def check_same_images(source: CleanSource, path: str, manifest: Manifest, *, failed: int) -> None:
    """UserError where prepared clean data holds as many images as the shards were made from, but others.

    `failed` is the number of views that failed. Where images were unusable the hashes may differ although the data is
    the same: a prepared folder does not hold the bytes of those.
    """
    if not isinstance(source, PreparedShards):
        return
    folder = open_folder(path)
    prepared = read_manifest(folder)
    comparable = manifest.clean_sha256 and prepared.samples == manifest.samples and not failed
    if not comparable or prepared.clean_sha256 == manifest.clean_sha256:
        return
    if not any(summary.failed for summary in read_shard_table(folder)):
        raise UserError(f"clean data {path}: its images or their order are not those that the shards were made from")
