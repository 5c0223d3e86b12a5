"""`dad train-quantizer`: a VQGAN for one's own images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_quantizer(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe.")],
    out: Annotated[Path, typer.Option(help="Folder to make; run again to resume.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a field of the recipe: optimiser.steps=2000.")
    ] = None,
) -> None:
    """Train a VQGAN on a clean dataset, and export it for `dad generate` and for taming-transformers."""
    from rich.console import Console

    from dad_datasets.settings import load_settings
    from dad_datasets.stop_request import TrainingInterrupted
    from dad_pipeline.quantizer_training.loop import train_quantizer as train
    from dad_pipeline.quantizer_training.screen import closing_table, training_screen
    from dad_pipeline.quantizer_training.settings import QuantizerRecipe

    settings = load_settings(QuantizerRecipe, recipe, set_ or ())
    console = Console()
    optimiser = settings.optimiser
    try:
        with training_screen(console, steps=optimiser.steps, batch_size=optimiser.batch_size) as screen:
            figures = train(settings, out, screen)
    except TrainingInterrupted as interrupted:
        console.print(str(interrupted))
        raise typer.Exit(130) from None
    console.print(closing_table(figures, str(out)))
