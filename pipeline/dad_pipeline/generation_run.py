"""A whole run: take the folder, drive a runner over the units that are missing, finish the dataset."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from dad_datasets.errors import UserError
from dad_datasets.finishing import finish_dataset
from dad_datasets.folder import Folder, open_folder, require_writable
from dad_datasets.index import read_summary
from dad_datasets.layout import QUANTIZER
from dad_datasets.lease import only_writer
from dad_datasets.manifest import write_manifest
from dad_datasets.sources import WorkUnit
from dad_datasets.summary import finished_units, summarise, summary_table
from dad_pipeline.models import Models
from dad_pipeline.planning import Plan, plan_run
from dad_pipeline.progress import RunProgress
from dad_pipeline.quantizer import Quantizer
from dad_pipeline.quantizer_checkpoint import save_quantizer
from dad_pipeline.recipe import Recipe
from dad_pipeline.run_log import RunLog
from dad_pipeline.runners.runner import Runner, ViewsDone
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.teacher_trial import try_teacher
from dad_pipeline.teachers.check import require_better_than_chance
from dad_pipeline.worker import UnitFailure, WorkerSettings


class TooManyFailuresError(UserError):
    """More views failed than `max_failure_rate` allows."""


def generate_dataset(
    recipe: Recipe, out: str, *, make_runner: Callable[[Models], Runner], runner_name: str, console: Console
) -> bool:
    """Run `recipe` into `out`, going on where an earlier run stopped; whether every unit is finished.

    UserError for a mistake, before any work where it can be seen then.
    """
    folder = open_folder(out)
    plan = plan_run(recipe, folder)
    require_writable(folder)
    with only_writer(folder):
        folder.sweep()
        done = set(finished_units(folder))
        _require_own_units(folder, plan, done)
        missing = [unit for unit in plan.units if unit.name not in done]
        console.print(
            f"{len(plan.units):,} units, {plan.num_views:,} views"
            + (f"; {len(done):,} units are finished already" if done else ""),
            highlight=False,
        )
        log = RunLog(folder, runner_name)
        if missing:
            _look_at_teacher(plan, console)
            if not done:
                write_manifest(folder, plan.manifest)
                if plan.recipe.store.image == "none":
                    _ship_quantizer(folder, plan.models.quantizer)
            failed = sum(read_summary(folder, unit).failed for unit in done)
            try:
                _drive(plan, missing, folder, make_runner(plan.models), log, console, failed)
            finally:
                folder.sweep()  # what killed workers left; those that lived have ended
                log.publish()
        names = [unit.name for unit in plan.units]
        complete = not log.failures
        if complete and plan.manifest.state != "finished":
            finish_dataset(folder, plan.manifest, names)
        finished = names if complete else finished_units(folder)
        seconds = log.seconds if missing else None
        console.print(summary_table(summarise(folder, finished), title=f"dataset {out}", seconds=seconds))
    for failure in log.failures:
        console.print(f"unit {failure.unit} was not made: {failure.reason}", markup=False, highlight=False)
    return complete


def _drive(
    plan: Plan,
    missing: Sequence[WorkUnit],
    folder: Folder,
    runner: Runner,
    log: RunLog,
    console: Console,
    failed: int,
) -> None:
    settings = WorkerSettings(
        recipe=plan.recipe, class_names=plan.class_names, out=folder.url, fingerprint=plan.manifest.fingerprint
    )
    views_per_image = len(plan.recipe.views.attacked)
    views = sum(unit.count for unit in missing) * views_per_image
    allowed = plan.recipe.max_failure_rate * plan.num_views
    with (
        RunProgress(console, units=len(missing), views=views) as progress,
        closing(runner.run(iter(missing), settings)) as events,
    ):
        for event in events:
            if isinstance(event, ViewsDone):
                progress.views_done(event.count)
                continue
            log.add(event)
            unit_failed = 0 if isinstance(event, UnitFailure) else event.failed
            progress.unit_done(unit_failed)
            failed += unit_failed
            if failed > allowed and not isinstance(event, UnitFailure):
                raise TooManyFailuresError(_too_many(failed, plan, event))


def _too_many(failed: int, plan: Plan, last: UnitReport) -> str:
    reason = max(last.reasons, key=last.reasons.__getitem__) if last.reasons else "unknown"
    return (
        f"{failed:,} of {plan.num_views:,} views failed, more than max_failure_rate = {plan.recipe.max_failure_rate:g} "
        f"allows; the last unit's most frequent reason: {reason}. Mend the source, or go on with "
        "--set max_failure_rate=... (finished units are kept)"
    )


def _ship_quantizer(folder: Folder, quantizer: Quantizer) -> None:
    """Put the quantizer beside the codes, which are worth nothing without it."""
    with tempfile.TemporaryDirectory() as temporary:
        save_quantizer(quantizer, Path(temporary))
        for path in sorted(Path(temporary).iterdir()):
            with folder.publish(f"{QUANTIZER}/{path.name}") as stream, path.open("rb") as saved:
                shutil.copyfileobj(saved, stream)


def _look_at_teacher(plan: Plan, console: Console) -> None:
    """Print the teacher's accuracy; UserError where it is near chance and the recipe does not allow that."""
    console.print(f"teacher: {plan.models.teacher.preprocessing}", highlight=False, markup=False, soft_wrap=True)
    trial = try_teacher(plan.models, plan.recipe, plan.source, plan.units)
    if trial is None:
        return
    console.print(
        f"{trial.clean.message()}; after the VQGAN alone {trial.after_vqgan.accuracy:.1%}",
        highlight=False,
        soft_wrap=True,
    )
    if not plan.recipe.check.allow_near_chance:
        require_better_than_chance(trial.clean)


def _require_own_units(folder: Folder, plan: Plan, done: set[str]) -> None:
    strangers = sorted(done - {unit.name for unit in plan.units})
    if strangers:
        raise UserError(f"{folder.url}/index holds units that this recipe does not make, {strangers[0]} among them")
