"""`dad label`: another teacher's logits for an existing set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def label(
    dataset: Annotated[str, typer.Argument(help="Folder of a finished set with images.")],
    recipe: Annotated[Path, typer.Argument(help="YAML recipe with a teacher section.")],
    name: Annotated[str, typer.Option(help="Name of the labels, by which the trainer takes them; rerun to resume.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field: --set compute.batch_size=64 (repeatable).")
    ] = None,
) -> None:
    """Run another teacher over a set's clean and adversarial images; no new attack."""
    from rich.console import Console

    from dad_datasets.settings import load_settings
    from dad_pipeline.labelling.label_run import label_dataset
    from dad_pipeline.labelling.recipe import LabelRecipe

    label_dataset(dataset, load_settings(LabelRecipe, recipe, set_ or ()), name, console=Console())
