"""`dad train`: a student from a recipe and finished shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe; relative paths in it start at the current directory.")],
    out: Annotated[str, typer.Option(help="Folder of the run; run again to resume.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field: --set loss.name=kd (repeatable).")
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Ask a live teacher in place of the stored logits: a YAML file with a `teacher` section."),
    ] = None,
) -> None:
    """Distil a student from shards. Under torchrun: one process a GPU."""
    from rich.console import Console

    from dad_datasets.errors import UserError
    from dad_datasets.folder import local_path
    from dad_datasets.settings import apply_overrides, build_settings, read_recipe
    from dad_trainer.training.recipe import TrainingRecipe
    from dad_trainer.training.run import train_student

    raw = apply_overrides(read_recipe(recipe), set_ or ())
    if teacher is not None:
        section = read_recipe(teacher).get("teacher")
        if not isinstance(section, dict):
            raise UserError(f"--teacher {teacher}: has no section `teacher`; a generation recipe has one")
        raw["teacher"] = section
    settings = build_settings(TrainingRecipe, raw, origin=f"recipe {recipe}")
    if not train_student(settings, local_path(out, option="--out"), console=Console()):
        raise typer.Exit(130)
