"""`dad evaluate`: students on clean, corrupted and out-of-distribution benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Checkpoints of students, by dad train or timm; a row of the table each.")
    ],
    out: Annotated[str, typer.Option(help="Folder of the results; run again to resume or to add students.")],
    recipe: Annotated[Path | None, typer.Option(help="YAML recipe with the benchmarks.")] = None,
    clean: Annotated[
        str | None, typer.Option(help="Without a recipe: images to evaluate on as they are (folder, tars, Parquet).")
    ] = None,
    corrupted: Annotated[
        str | None, typer.Option(help="Without a recipe: images to evaluate on under 15 corruptions, 5 severities.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field: --set run.batch_size=64 (repeatable).")
    ] = None,
    architecture: Annotated[str | None, typer.Option(help="timm model of checkpoints that do not say it.")] = None,
    num_classes: Annotated[int | None, typer.Option(min=2, help="Classes of students that do not say it.")] = None,
    image_size: Annotated[int | None, typer.Option(min=1, help="Pixels that the students are fed with.")] = None,
    ema: Annotated[bool, typer.Option(help="Averaged weights where a checkpoint has them.")] = True,
) -> None:
    """Measure how accurate, robust and calibrated students are; JSON, a Markdown table and a chart."""
    from rich.console import Console

    from dad_datasets.folder import local_path
    from dad_trainer.evaluation.identity import student_names
    from dad_trainer.evaluation.quick_recipe import evaluation_recipe
    from dad_trainer.evaluation.session import evaluate_checkpoints

    evaluate_checkpoints(
        student_names(checkpoints),
        evaluation_recipe(recipe, clean=clean, corrupted=corrupted, overrides=set_ or ()),
        local_path(out, option="--out"),
        console=Console(),
        architecture=architecture,
        num_classes=num_classes,
        image_size=image_size,
        use_ema=ema,
    )
