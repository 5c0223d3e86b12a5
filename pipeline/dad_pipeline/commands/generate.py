"""`dad generate`: a recipe turned into adversarial shards."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class RunnerName(StrEnum):
    """Where the workers run."""

    local = "local"
    inline = "inline"
    ray = "ray"


def generate(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe; relative paths in it start at the current directory.")],
    out: Annotated[str, typer.Option(help="Folder of the dataset; run again to resume.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field: --set attack.epsilon=0.5 (repeatable).")
    ] = None,
    runner: Annotated[
        RunnerName, typer.Option(help="local: processes of this machine; ray: a Ray cluster; inline: this process.")
    ] = RunnerName.local,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers; by default one, or under Ray one a GPU.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="Ray cluster to join; otherwise one is started here.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what the run would take, from a short trial.")] = False,
    views_per_s: Annotated[
        float | None, typer.Option(min=1e-6, help="With --plan: the rate to reckon with, in place of the trial's.")
    ] = None,
) -> None:
    """Attack clean images with a teacher, snap them to VQGAN codes, write WebDataset shards."""
    from rich.console import Console

    from dad_datasets.errors import UserError
    from dad_datasets.settings import load_settings
    from dad_pipeline.generation_run import generate_dataset
    from dad_pipeline.models import Models
    from dad_pipeline.recipe import Recipe
    from dad_pipeline.run_estimate import print_estimate
    from dad_pipeline.runners.inline_runner import InlineRunner
    from dad_pipeline.runners.process_runner import ProcessRunner
    from dad_pipeline.runners.ray_address import require_reachable
    from dad_pipeline.runners.runner import Runner

    if views_per_s is not None and not plan:
        raise UserError("--views-per-s: goes with --plan; a run is as fast as it is")
    settings = load_settings(Recipe, recipe, set_ or ())
    if ray_address is not None and runner is not RunnerName.ray:
        raise UserError(f"--ray-address {ray_address}: needs --runner ray")
    if workers is not None and runner is RunnerName.inline:
        raise UserError(f"--workers {workers}: --runner inline is one worker in this process; local takes more")

    if plan:
        print_estimate(settings, out, views_per_s=views_per_s, console=Console())
        return

    if ray_address is not None:
        require_reachable(ray_address)

    def make_runner(models: Models) -> Runner:
        if runner is RunnerName.ray:
            from dad_pipeline.runners.ray_runner import RayRunner

            return RayRunner(workers=workers, address=ray_address)
        return ProcessRunner(workers or 1) if runner is RunnerName.local else InlineRunner(models)

    console = Console()
    complete = generate_dataset(settings, out, make_runner=make_runner, runner_name=runner.value, console=console)
    if not complete:
        raise typer.Exit(1)
