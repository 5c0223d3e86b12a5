"""Everything about a run that can be wrong is found here, before any work: the recipe settled, the inputs checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.keys import check_member_name, view_key
from dad_datasets.layout import MANIFEST
from dad_datasets.manifest import Manifest, fingerprint_of, read_manifest, require_same_run
from dad_datasets.sources import CleanSource, WorkUnit, open_source
from dad_pipeline.fingerprint import fingerprinted_fields, resolve
from dad_pipeline.models import Models, configure_torch, load_models
from dad_pipeline.recipe import Recipe
from dad_pipeline.teachers.prompts import class_names as named_classes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run that may start: everything checked, nothing written yet."""

    recipe: Recipe
    source: CleanSource
    class_names: tuple[str, ...] | None
    units: tuple[WorkUnit, ...]
    models: Models
    manifest: Manifest

    @property
    def num_views(self) -> int:
        return sum(unit.count for unit in self.units) * len(self.recipe.views.attacked)


def plan_run(recipe: Recipe, folder: Folder) -> Plan:
    """Resolve and check a run. UserError for whatever would make it fail later."""
    existing = read_manifest(folder) if folder.exists(MANIFEST) else None
    if existing is not None and existing.kind != "adversarial":
        raise UserError(f"{folder.url} holds a {existing.kind} dataset: choose another output directory")
    recipe = resolve(recipe, existing)
    source = open_source(recipe.source)
    class_names = _class_names(recipe, source)
    longest = source.longest_key()
    if longest is not None:
        check_member_name(view_key(longest, len(recipe.views.attacked) - 1))
    units = tuple(source.plan(recipe.samples_per_shard))
    configure_torch(recipe.compute)
    models = load_models(recipe, class_names)
    _check_labels(source, models.teacher.num_classes, class_names)
    fields = fingerprinted_fields(
        recipe,
        weights=models.weights(),
        preprocessing=models.teacher.preprocessing,
        source_identity=source.identity(),
    )
    if existing is not None:
        require_same_run(existing, fields, where=f"the output directory {folder.url}")
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
    return Plan(
        recipe=recipe,
        source=source,
        class_names=class_names,
        units=units,
        models=models,
        manifest=existing or manifest,
    )


def _class_names(recipe: Recipe, source: CleanSource) -> tuple[str, ...] | None:
    names = None if recipe.class_names is None else named_classes(recipe.class_names)
    if names is not None and source.class_names is not None and len(names) != len(source.class_names):
        raise UserError(
            f"class_names: {len(names)} names, but the source has {len(source.class_names)} classes; they must agree"
        )
    return names if names is not None else source.class_names


def _check_labels(source: CleanSource, num_classes: int, class_names: Sequence[str] | None) -> None:
    if class_names is not None and len(class_names) != num_classes:
        raise UserError(
            f"class_names: {len(class_names)} names for a teacher of {num_classes} classes; they must agree"
        )
    known = source.label_range()
    if known is not None and known[1] >= num_classes:
        raise UserError(
            f"source: its labels reach {known[1]}, but the teacher has {num_classes} classes (0 to {num_classes - 1})"
        )
