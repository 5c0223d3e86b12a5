"""`dad sweep`: many students over one set of shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sweep(
    file: Annotated[Path, typer.Argument(help="YAML: a training recipe, and what each student changes in it.")],
    out: Annotated[str, typer.Option(help="Folder of all runs and of the table; run again to resume.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field of the sweep: --set seeds=[0,1] (repeatable).")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Trainings side by side, each a process.")] = 1,
) -> None:
    """Train and evaluate a list of students, and compare them in one table."""
    from rich.console import Console

    from dad_datasets.folder import local_path
    from dad_datasets.settings import load_settings
    from dad_trainer.sweep.run import run_sweep
    from dad_trainer.sweep.settings import SweepSettings

    settings = load_settings(SweepSettings, file, set_ or ())
    if not run_sweep(settings, local_path(out, option="--out"), jobs=jobs, console=Console()):
        raise typer.Exit(1)
