"""The sets of shards of a run, opened and found to fit together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dad_datasets.errors import UserError
from dad_trainer.reading import Pairs, open_pairs
from dad_trainer.training.recipe import TrainingRecipe


def open_sets(recipe: TrainingRecipe) -> list[Pairs]:
    """The sets in the recipe's order. UserError where one cannot be read, or does not fit the first."""
    compute = recipe.compute
    sets = [
        open_pairs(
            one.path,
            clean=one.clean,
            where=one.where,
            teacher=one.teacher,
            temperature=recipe.loss.temperature if recipe.uses_stored_logits else None,
            clean_images=recipe.shown != "adversarial",
            adversarial_images=recipe.shown != "clean",
            max_missing=one.max_missing,
            cache=None if compute.cache is None else Path(compute.cache),
            cache_bytes=round(compute.cache_gb * 1e9),
        )
        for one in recipe.shards
    ]
    require_alike(sets, logits=recipe.uses_stored_logits)
    return sets


def require_alike(sets: Sequence[Pairs], *, logits: bool) -> None:
    """UserError where sets that are to be mixed differ in classes, in size, or, if used, in how logits are stored."""
    first = sets[0]
    for other in sets[1:]:
        if other.size != first.size:
            raise UserError(f"{other.url} holds images of {other.size} pixels, {first.url} of {first.size}")
        if other.num_classes != first.num_classes:
            raise UserError(f"{other.url} has {other.num_classes} classes, {first.url} has {first.num_classes}")
        if logits and kept_logits(other) != kept_logits(first):
            raise UserError(
                f"{other.title} stores {kept_logits(other)} of each view, {first.title} {kept_logits(first)}"
            )
        if other.class_names and first.class_names and other.class_names != first.class_names:
            pairs = enumerate(zip(other.class_names, first.class_names, strict=True))
            number, (there, here) = next((n, names) for n, names in pairs if names[0] != names[1])
            raise UserError(f"class {number} is {there!r} in {other.url} and {here!r} in {first.url}")


def kept_logits(pairs: Pairs) -> str:
    """How much of the teacher's answer a set stores, in words."""
    return "all logits" if pairs.top_k is None else f"the {pairs.top_k} largest logits"
