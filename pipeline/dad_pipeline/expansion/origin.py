"""A codes-only set that is to be expanded, and the quantizer that decodes it: both found whole before any work."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder, open_folder
from dad_datasets.index import ShardSummary
from dad_datasets.manifest import Manifest, read_manifest
from dad_datasets.settings import build_settings
from dad_datasets.shard_table import read_shard_table
from dad_pipeline.checkpoint_file import weights_sha256
from dad_pipeline.quantizer import Quantizer
from dad_pipeline.quantizer_checkpoint import QuantizerSettings, load_quantizer
from dad_pipeline.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A finished codes-only set; `recipe` is the one that it was generated with, `units` are in its order."""

    folder: Folder
    manifest: Manifest
    recipe: Recipe
    units: tuple[ShardSummary, ...]


def open_origin(url: str) -> Origin:
    """UserError unless a finished codes-only set is there."""
    folder = open_folder(url)
    manifest = read_manifest(folder)
    if manifest.kind != "adversarial":
        raise UserError(f"{url} holds {manifest.kind} shards; dad expand reads what dad generate made")
    recipe = build_settings(Recipe, manifest.recipe, origin=f"{url}: its recipe")
    if recipe.store.image != "none":
        raise UserError(f"{url} holds images ({recipe.store.image}) already; only sets of codes need to be expanded")
    if manifest.state != "finished":
        raise UserError(f"{url} is not finished: run `dad generate` again to go on, then expand it")
    return Origin(folder=folder, manifest=manifest, recipe=recipe, units=tuple(read_shard_table(folder)))


def quantizer_of(origin: Origin, elsewhere: Path | None, device: torch.device) -> Quantizer:
    """The quantizer that travels with the set, or the one in the folder `elsewhere`.

    UserError where a file is missing or damaged, or the weights are not those that the codes were made with.
    """
    if elsewhere is not None:
        quantizer, place = load_quantizer(QuantizerSettings(checkpoint=elsewhere), device=device), str(elsewhere)
    else:
        with tempfile.TemporaryDirectory(prefix="dad-quantizer-") as temporary:
            copied = _copied(origin, Path(temporary))
            quantizer = load_quantizer(QuantizerSettings(checkpoint=copied), device=device)
        place = f"{origin.folder.url}/quantizer"
    if weights_sha256(quantizer) != origin.manifest.fingerprinted["weights"]["quantizer"]:
        raise UserError(
            f"{place}: is not the quantizer that the codes of {origin.folder.url} were made with (its weights differ)"
        )
    return quantizer


def _copied(origin: Origin, target: Path) -> Path:
    """A local copy of the set's quantizer files, each compared with the hash in the manifest."""
    url = origin.folder.url
    if not origin.manifest.quantizer_files:
        raise UserError(f"{url}: its manifest names no quantizer; name the folder of one with --quantizer")
    for name, expected in origin.manifest.quantizer_files.items():
        try:
            with origin.folder.open(name) as stream:
                content = stream.read()
        except FileNotFoundError:
            raise UserError(f"{url}/{name}: is missing; name the folder of this quantizer with --quantizer") from None
        if hashlib.sha256(content).hexdigest() != expected:
            raise UserError(
                f"{url}/{name}: its bytes are not those that were written (sha256 differs); fetch the set again, or "
                "name the folder of this quantizer with --quantizer"
            )
        (target / Path(name).name).write_bytes(content)
    return target
