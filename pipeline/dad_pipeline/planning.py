"""Everything about a run that can be wrong is found here, before any work: the recipe settled, the inputs checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.keys import check_member_name, view_key
from dad_datasets.layout import MANIFEST
from dad_datasets.manifest import Manifest, fingerprint_of, read_manifest, require_same_run
from dad_datasets.sources import CleanSource, open_source
from dad_pipeline.adversarial_views import attack_pixels
from dad_pipeline.batch_size import find_batch_size
from dad_pipeline.compilation import compile_networks
from dad_pipeline.fingerprint import fingerprinted_fields, resolve
from dad_pipeline.models import Models, configure_torch, load_models, precision, require_size, told_of_memory
from dad_pipeline.recipe import Recipe
from dad_pipeline.teachers.prompts import class_names as named_classes
from dad_pipeline.unit_table import UnitTable


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run that may start: everything checked, nothing written yet."""

    recipe: Recipe
    source: CleanSource
    class_names: tuple[str, ...] | None
    units: UnitTable
    source_identity: str
    manifest: Manifest
    """As it stands in a folder that the run goes on in, else the one to write."""

    @property
    def num_views(self) -> int:
        return self.units.num_samples * len(self.recipe.views.attacked)


def plan_run(recipe: Recipe, folder: Folder) -> tuple[Plan, Models]:
    """Resolve and check a run, with its models loaded. UserError for whatever would make it fail later."""
    existing = existing_manifest(folder)
    recipe = resolve(recipe, existing)
    source = open_source(recipe.source)
    class_names = _class_names(recipe, source)
    longest = source.longest_key()
    if longest is not None:
        check_member_name(view_key(longest, len(recipe.views.attacked) - 1))
    units = UnitTable.of(source.plan(recipe.samples_per_shard))
    configure_torch(recipe.compute)
    with told_of_memory(recipe.compute.batch_size):
        models = load_models(recipe, class_names)
        require_size(models, recipe)
        recipe = _with_batch_size(recipe, models)
    _check_classes(recipe, models.teacher.num_classes, class_names)
    _check_labels(source, models.teacher.num_classes)
    identity = source.identity()
    fields = fingerprinted_fields(recipe, models, class_names=class_names, source_identity=identity)
    if existing is not None:
        require_same_run(existing, fields, where=f"the output directory {folder.url}")
    compile_networks(models.networks(), recipe.compute, models.device)
    manifest = Manifest(
        kind="adversarial",
        state="running",
        fingerprint=fingerprint_of(fields),
        fingerprinted=fields,
        recipe=recipe.model_dump(mode="json"),
        class_names=class_names,
        num_classes=models.teacher.num_classes,
        shards=0,
        samples=0,
        clean_sha256="",
    )
    plan = Plan(
        recipe=recipe,
        source=source,
        class_names=class_names,
        units=units,
        source_identity=identity,
        manifest=existing or manifest,
    )
    return plan, models


def _with_batch_size(recipe: Recipe, models: Models) -> Recipe:
    compute, size = recipe.compute, recipe.views.size

    def trial(num_views: int) -> None:
        blank = torch.zeros(num_views, 3, size, size, device=models.device)
        labels = torch.zeros(num_views, dtype=torch.long, device=models.device)
        with torch.no_grad(), precision(compute, models.device):
            logits = models.attacked(blank).float()
        attack_pixels(models, recipe, blank, labels, clean_logits=logits)

    if compute.batch_size == "auto":
        compute = compute.model_copy(update={"batch_size": find_batch_size(models.device, trial)})
    return recipe.model_copy(update={"compute": compute})


def existing_manifest(folder: Folder) -> Manifest | None:
    """The manifest of the adversarial dataset that is begun in `folder`. UserError where another kind is."""
    existing = read_manifest(folder) if folder.exists(MANIFEST) else None
    if existing is not None and existing.kind != "adversarial":
        raise UserError(f"{folder.url} holds a {existing.kind} dataset: choose another output directory")
    return existing


def _class_names(recipe: Recipe, source: CleanSource) -> tuple[str, ...] | None:
    names = None if recipe.class_names is None else named_classes(recipe.class_names)
    if names is not None and source.class_names is not None and len(names) != len(source.class_names):
        raise UserError(
            f"class_names: {len(names)} names, but the source has {len(source.class_names)} classes; they must agree"
        )
    return names if names is not None else source.class_names


def _check_classes(recipe: Recipe, num_classes: int, class_names: Sequence[str] | None) -> None:
    if num_classes < 2:
        raise UserError(f"teacher: {num_classes} class; an attack needs at least 2")
    logits = recipe.store.logits
    if logits != "full" and logits.top_k > num_classes:
        raise UserError(
            f"store.logits.top_k = {logits.top_k}: the teacher has {num_classes} classes; at most that many"
        )
    if logits != "full" and num_classes > 65536:
        raise UserError(f"store.logits.top_k: {num_classes} classes do not fit uint16 ids; store full logits")
    if class_names is not None and len(class_names) != num_classes:
        raise UserError(
            f"class_names: {len(class_names)} names for a teacher of {num_classes} classes; they must agree"
        )


def _check_labels(source: CleanSource, num_classes: int) -> None:
    known = source.label_range()
    if known is not None and known[1] < 0:
        raise UserError("source: it has no labels, all of them are negative")
    if known is not None and known[1] >= num_classes:
        raise UserError(
            f"source: its labels reach {known[1]}, but the teacher has {num_classes} classes (0 to {num_classes - 1})"
        )
