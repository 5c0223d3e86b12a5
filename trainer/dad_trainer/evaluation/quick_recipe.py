"""The recipe of a run: from its file, or made from the options that name images alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dad_datasets.errors import UserError
from dad_datasets.settings import apply_overrides, build_settings, load_settings
from dad_trainer.evaluation.settings import EvaluationRecipe


def evaluation_recipe(
    path: Path | None, *, clean: str | None, corrupted: str | None, overrides: Sequence[str]
) -> EvaluationRecipe:
    """UserError where neither or both of a recipe file and images are given, or the recipe is wrong."""
    if path is not None:
        if clean is not None or corrupted is not None:
            raise UserError("--recipe: cannot be given with --clean or --corrupted; add these to the recipe")
        return load_settings(EvaluationRecipe, path, overrides)
    benchmarks: list[dict[str, Any]] = [
        {"name": kind, "kind": kind, "path": images}
        for kind, images in (("clean", clean), ("corrupted", corrupted))
        if images is not None
    ]
    if not benchmarks:
        raise UserError("nothing to evaluate on: give --recipe, --clean or --corrupted")
    return build_settings(EvaluationRecipe, apply_overrides({"benchmarks": benchmarks}, overrides), origin="options")
