"""What the pipeline offers the base as plug-ins: the VQGAN alone on canvases, and stored views computed again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder, open_folder
from dad_datasets.index import read_index
from dad_datasets.manifest import Manifest, read_manifest
from dad_datasets.plugins import Replayed
from dad_datasets.record import pixels_sha256
from dad_datasets.recorded_source import recorded_source
from dad_datasets.settings import build_settings
from dad_datasets.shard_reader import open_shard
from dad_datasets.sources import CleanSource, WorkUnit, open_source
from dad_datasets.sources.sparing_reader import SparingReader, UnitReader, is_fatal
from dad_pipeline.adversarial_views import AdversarialView, to_canvases, to_pixels
from dad_pipeline.compilation import compile_networks
from dad_pipeline.models import Models, configure_torch, load_models, quantizer_precision, told_of_memory
from dad_pipeline.quantizer import Quantizer
from dad_pipeline.quantizer_checkpoint import QuantizerSettings, load_quantizer
from dad_pipeline.recipe import Recipe
from dad_pipeline.shard_generation import compute_batch
from dad_pipeline.stored_views import compress_for
from dad_pipeline.view_batches import ViewBatches


@torch.no_grad()
def reconstruct(manifest: Manifest, canvases: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The round trip of canvases [n, h, w, 3] through the dataset's quantizer alone, on the CPU."""
    recipe = build_settings(Recipe, manifest.recipe, origin="the dataset's recipe")
    quantizer, device = _quantizer(recipe.quantizer), torch.device("cpu")
    with quantizer_precision(recipe.compute, device):
        pixels = quantizer.decode(quantizer.encode(to_pixels(canvases.transpose(0, 3, 1, 2), device)))
    return to_canvases(pixels).transpose(0, 2, 3, 1)


def replay(dataset: str, views: Sequence[tuple[str, str]]) -> list[Replayed]:
    """Compute stored views, (unit, key) pairs, again in the batches that they were made in, and compare.

    UserError where the recipe's files are gone, the source has changed, or such a batch does not fit this device.
    """
    folder = open_folder(dataset)
    manifest = read_manifest(folder)
    recipe = build_settings(Recipe, manifest.recipe, origin="the dataset's recipe")
    configure_torch(recipe.compute)
    with told_of_memory("auto"):
        models = load_models(recipe, manifest.class_names)
    models.require(manifest.fingerprinted["weights"])
    compile_networks(models.networks(), recipe.compute, models.device)
    wanted: dict[str, set[str]] = {}
    for name, key in views:
        wanted.setdefault(name, set()).add(key)
    source = open_source(recorded_source(manifest, origin="the dataset's source"))
    if source.identity() != manifest.fingerprinted["source"]:
        raise UserError(
            f"the source {recipe.source.path} is not the one that the dataset was made from: it has changed"
        )
    results: list[Replayed] = []
    with told_of_memory(recipe.compute.batch_size, option=None), ThreadPoolExecutor(2) as pool:
        for unit in source.plan(recipe.samples_per_shard):
            keys = wanted.pop(unit.name, set())
            if keys:
                reader = _reader(source, folder, unit, recipe)
                batches = ViewBatches(unit, reader, recipe, models.teacher.num_classes, pool=pool, ahead=64)
                compared = list(_compare(folder, unit, recipe, _computed(batches, keys, recipe, models, pool)))
                results += compared
                results += [
                    Replayed(key=key, image_equal=False, codes_equal_share=0.0, logits_max_difference=math.inf)
                    for key in sorted(keys - {result.key for result in compared})  # it can no longer be made
                ]
    if wanted:
        raise UserError(f"{dataset}: the source no longer has the samples of unit {min(wanted)}")
    return results


def _reader(source: CleanSource, folder: Folder, unit: WorkUnit, recipe: Recipe) -> UnitReader:
    """With care where the run needed it."""
    reasons = read_index(folder, unit.name, ["reason"])["reason"].to_pylist()
    return SparingReader(source, max_pixels=recipe.max_image_pixels) if any(map(is_fatal, reasons)) else source


def _computed(
    batches: ViewBatches, keys: set[str], recipe: Recipe, models: Models, pool: ThreadPoolExecutor
) -> Iterator[AdversarialView]:
    for batch in batches:
        if batch.attack and any(view.provenance.key in keys for view in batch.prepared):
            for result in compute_batch(batch, recipe, models, pool):
                if isinstance(result, AdversarialView) and result.source.provenance.key in keys:
                    yield result


def _compare(folder: Folder, unit: WorkUnit, recipe: Recipe, views: Iterator[AdversarialView]) -> Iterator[Replayed]:
    table = read_index(folder, unit.name)
    codes_only = recipe.store.image == "none"
    for view in views:
        key = view.source.provenance.key
        row = table.filter(pc.equal(table["key"], key)).to_pylist()[0]
        computed = compress_for(view.logits, recipe.store.logits).values
        logits: npt.NDArray[Any]
        codes: npt.NDArray[Any] | None = None
        if codes_only:
            logits = np.asarray(row["teacher"], dtype=np.float16).reshape(computed.shape)
            codes = np.asarray(row["codes"], dtype=np.uint16).reshape(view.codes.shape)
        else:
            with open_shard(folder, unit.name) as shard:
                logits = shard.array(row, "teacher")
                codes = shard.array(row, "codes") if recipe.store.codes else None
        yield Replayed(
            key=key,
            image_equal=pixels_sha256(view.canvas) == row["image_sha256"],
            codes_equal_share=1.0 if codes is None else float((codes == view.codes).mean()),
            logits_max_difference=float(np.abs(computed.astype(np.float32) - logits.astype(np.float32)).max()),
        )


@lru_cache(maxsize=1)
def _quantizer(settings: QuantizerSettings) -> Quantizer:
    return load_quantizer(settings, device=torch.device("cpu"))
