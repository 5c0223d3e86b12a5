"""Everything about a labelling run that can be wrong, found before any work."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dad_datasets.errors import UserError
from dad_datasets.labels import identity_of_set
from dad_datasets.layout import FORMAT_VERSION
from dad_datasets.manifest import Manifest, fingerprint_of
from dad_datasets.torch_devices import choose_device
from dad_pipeline.batch_size import find_batch_size
from dad_pipeline.checkpoint_file import weights_sha256
from dad_pipeline.compilation import compile_networks
from dad_pipeline.fingerprint import library_versions, settle, without_paths
from dad_pipeline.labelling.labelled_set import LabelledSet
from dad_pipeline.labelling.recipe import LabelRecipe
from dad_pipeline.models import configure_torch, precision, told_of_memory
from dad_pipeline.teachers import Teacher, load_teacher
from dad_pipeline.teachers.prompts import class_names as named_classes

NOT_RESULT_FIELDS = frozenset({"check", "source"})
"""Each clean canvas is compared with its hash, wherever it comes from."""


@dataclass(frozen=True, kw_only=True)
class LabelPlan:
    """A run that may start; `recipe` has no `auto` left in it."""

    recipe: LabelRecipe
    teacher: Teacher
    device: torch.device
    manifest: Manifest
    """The one to write."""


def plan_labels(labelled: LabelledSet, recipe: LabelRecipe, existing: Manifest | None) -> LabelPlan:
    """Settle the recipe, as an earlier run in the same folder did, and load the teacher.

    UserError where it cannot be loaded, or its classes or its input are not those of the set.
    """
    settled: Mapping[str, Any] = existing.fingerprinted.get("recipe", {}).get("compute", {}) if existing else {}
    recipe = recipe.model_copy(update={"compute": settle(recipe.compute, settled)})
    configure_torch(recipe.compute)
    device = choose_device(recipe.compute.device, field="compute.device")
    with told_of_memory(recipe.compute.batch_size):
        teacher = load_teacher(recipe.teacher, class_names=_prompted_names(labelled.manifest, recipe), device=device)
        _check_teacher(teacher, labelled, recipe, device)
        recipe = _with_batch_size(recipe, teacher, labelled.views.size, device)
    fields = _fields(labelled, recipe, teacher)
    compile_networks([teacher], recipe.compute, device)
    manifest = Manifest(
        kind="labels",
        state="running",
        fingerprint=fingerprint_of(fields),
        fingerprinted=fields,
        recipe=recipe.model_dump(mode="json"),
        class_names=labelled.manifest.class_names,
        num_classes=teacher.num_classes,
        shards=0,
        samples=0,
        clean_sha256="",
    )
    return LabelPlan(recipe=recipe, teacher=teacher, device=device, manifest=manifest)


def _with_batch_size(recipe: LabelRecipe, teacher: Teacher, size: int, device: torch.device) -> LabelRecipe:
    compute = recipe.compute

    def trial(num_views: int) -> None:
        with torch.no_grad(), precision(compute, device):
            teacher(torch.zeros(num_views, 3, size, size, device=device))

    if compute.batch_size == "auto":
        compute = compute.model_copy(update={"batch_size": find_batch_size(device, trial)})
    return recipe.model_copy(update={"compute": compute})


def _prompted_names(manifest: Manifest, recipe: LabelRecipe) -> Sequence[str] | None:
    if recipe.class_names is None:
        return manifest.class_names
    names = named_classes(recipe.class_names)
    if len(names) != manifest.num_classes:
        raise UserError(f"class_names: {len(names)} names, but the set has {manifest.num_classes} classes")
    return names


def _check_teacher(teacher: Teacher, labelled: LabelledSet, recipe: LabelRecipe, device: torch.device) -> None:
    num_classes, size = labelled.manifest.num_classes, labelled.views.size
    if teacher.num_classes != num_classes:
        raise UserError(f"teacher: has {teacher.num_classes} classes, but the set has {num_classes}; they must agree")
    if recipe.logits != "full" and recipe.logits.top_k > num_classes:
        raise UserError(
            f"logits.top_k = {recipe.logits.top_k}: the teacher has {num_classes} classes; at most that many"
        )
    if recipe.logits != "full" and num_classes > 65536:
        raise UserError(f"logits.top_k: {num_classes} classes do not fit uint16 ids; keep full logits")
    try:
        with torch.no_grad(), precision(recipe.compute, device):
            teacher(torch.zeros(1, 3, size, size, device=device))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"teacher: cannot process the set's images of {size} pixels: {reason}") from None


def _fields(labelled: LabelledSet, recipe: LabelRecipe, teacher: Teacher) -> dict[str, Any]:
    """Everything that changes the labels, as plain JSON values."""
    dumped = {k: v for k, v in recipe.model_dump(mode="json").items() if k not in NOT_RESULT_FIELDS}
    names = labelled.manifest.class_names
    return {
        "format_version": FORMAT_VERSION,
        "set": identity_of_set(labelled.manifest, labelled.units),
        "recipe": without_paths(dumped),
        "weights": {"teacher": weights_sha256(teacher)},
        "architectures": {"teacher": hashlib.sha256(repr(teacher).encode()).hexdigest()},
        "preprocessing": teacher.preprocessing,
        "class_names": None if names is None else list(names),
        "libraries": library_versions(),
    }
