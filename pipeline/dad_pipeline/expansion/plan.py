"""How a set is expanded: the arithmetic settled, and the manifest that says what the images came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dad_datasets.layout import FORMAT_VERSION
from dad_datasets.manifest import Manifest, fingerprint_of
from dad_pipeline.expansion.origin import Origin
from dad_pipeline.fingerprint import library_versions, settle
from dad_pipeline.models import num_cores
from dad_pipeline.recipe import ComputeSettings, DeviceName, Recipe

ExpandedFormat = Literal["webp", "png"]
"""Lossless ones: the stored logits are those of the decoded pixels."""


@dataclass(frozen=True, kw_only=True)
class ExpansionPlan:
    """`recipe` is the origin's with images in its store; `compute` is how the codes are decoded here."""

    recipe: Recipe
    compute: ComputeSettings
    manifest: Manifest
    """The one to write."""


def plan_expansion(
    origin: Origin,
    existing: Manifest | None,
    *,
    image_format: ExpandedFormat,
    device: DeviceName,
    batch_size: int | None,
    compiled: bool | None,
) -> ExpansionPlan:
    """Settle what is open: as an earlier run in the same directory did, else as the origin did it, on this machine.

    Precision is the origin's. So are the batch size and whether the decoder is compiled, without which an equal machine
    would not give equal bits. UserError for a batch that is too large, and where the earlier run had a GPU and this
    machine has none.
    """
    settled = existing.fingerprinted.get("expanded", {}) if existing else {}
    compute = _compute(origin, settled, device, batch_size, compiled)
    fields = _fields(origin, image_format, compute)
    recipe = origin.recipe
    manifest = origin.manifest.model_copy(
        update={
            "state": "running",
            "fingerprint": fingerprint_of(fields),
            "fingerprinted": fields,
            "recipe": _with_images(origin.manifest.recipe, image_format),
            "quantizer_files": {},
            "shards": 0,
            "samples": 0,
            "clean_sha256": "",
        }
    )
    store = recipe.store.model_copy(update={"image": image_format})
    return ExpansionPlan(recipe=recipe.model_copy(update={"store": store}), compute=compute, manifest=manifest)


def _compute(
    origin: Origin, settled: Mapping[str, Any], device: DeviceName, batch_size: int | None, compiled: bool | None
) -> ComputeSettings:
    there = origin.recipe.compute
    # More threads than cores only slow it down; fewer than there may move last bits, as another machine may anyway.
    threads = settled.get("threads") or (num_cores() if there.threads == "auto" else min(there.threads, num_cores()))
    chosen = {
        "device": device,
        "batch_size": batch_size or settled.get("batch_size") or there.batch_size,
        "threads": threads,
        "compile": settled.get("compile", there.compile) if compiled is None else compiled,
    }
    return settle(there.model_copy(update=chosen), settled)


def _fields(origin: Origin, image_format: ExpandedFormat, compute: ComputeSettings) -> dict[str, Any]:
    """The origin's, which say how the codes were made, and beside them how the images were made of those."""
    made = origin.manifest.fingerprinted
    return {
        **made,
        "format_version": FORMAT_VERSION,
        "recipe": _with_images(made["recipe"], image_format),
        "expanded": {
            "origin": origin.manifest.fingerprint,
            **compute.model_dump(mode="json"),
            "libraries": library_versions(),
        },
    }


def _with_images(recipe: Mapping[str, Any], image_format: ExpandedFormat) -> dict[str, Any]:
    return {**recipe, "store": {**recipe["store"], "image": image_format}}
