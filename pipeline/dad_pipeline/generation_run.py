"""A whole run: take the folder, drive a runner over the units that are missing, finish the dataset."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from rich.console import Console

from dad_datasets.errors import UserError
from dad_datasets.finishing import finish_dataset
from dad_datasets.folder import Folder, open_folder, require_writable
from dad_datasets.layout import QUANTIZER
from dad_datasets.lease import lease_token, only_writer
from dad_datasets.lost_tars import lost_message, units_without_tar
from dad_datasets.manifest import Manifest, reopened, require_same_run, write_manifest
from dad_datasets.output_place import refuse_out_inside_source
from dad_datasets.summary import finished_units, summarise, summary_table
from dad_pipeline.fingerprint import library_versions
from dad_pipeline.interruption import told_of_interruption
from dad_pipeline.models import Models, release_device_memory, told_of_memory
from dad_pipeline.planning import Plan, existing_manifest, plan_run
from dad_pipeline.progress import RunProgress
from dad_pipeline.quantizer import Quantizer
from dad_pipeline.quantizer_checkpoint import save_quantizer
from dad_pipeline.recipe import Recipe
from dad_pipeline.resume_scan import MOST_OPENED, failed_views
from dad_pipeline.run_log import RunLog
from dad_pipeline.runners.runner import Note, Runner, ViewsDone
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.teacher_trial import UNITS_LOOKED_AT, try_teacher
from dad_pipeline.teachers.check import require_better_than_chance
from dad_pipeline.unit_table import UnitTable
from dad_pipeline.worker import UnitFailure, WorkerSettings

MOST_SHOWN = 20
"""Units that were not made, each with its reason, on the screen."""


class TooManyFailuresError(UserError):
    """More views failed than `max_failure_rate` allows."""


def generate_dataset(
    recipe: Recipe, out: str, *, make_runner: Callable[[Models], Runner], runner_name: str, console: Console
) -> bool:
    """Run `recipe` into `out`, going on where an earlier run stopped; whether every unit is finished.

    UserError for a mistake, before any work where it can be seen then.
    """
    refuse_out_inside_source(recipe.source.path, out)
    folder = open_folder(out)
    require_writable(folder)
    plan, models = plan_run(recipe, folder)
    with only_writer(folder):
        folder.sweep()
        done = finished_units(folder)
        failed = _adopt(folder, plan, done)
        if plan.recipe.store.image != "none" and (lost := units_without_tar(folder, done)):
            console.print(lost_message(folder, lost), highlight=False, markup=False, soft_wrap=True)
            done = sorted(set(done).difference(lost))
            failed = _adopt(folder, plan, done)
        missing = plan.units.without(done)
        console.print(
            f"{len(plan.units):,} units, {plan.num_views:,} views"
            + (f"; {len(done):,} units are finished already" if done else ""),
            highlight=False,
        )
        log = RunLog(folder, runner_name)
        if missing:
            _look_at_teacher(plan, models, console)
            manifest = _begin(folder, plan, models.quantizer)
            runner = make_runner(models)
            del models  # the workers have their own, unless the runner keeps these
            release_device_memory()
            try:
                failed = _drive(plan, missing, folder, runner, log, console, failed)
            finally:
                folder.sweep()  # what killed workers left; those that lived have ended
                with suppress(OSError):  # where the disk is full the error that says so is on its way
                    log.publish()
        else:
            manifest = plan.manifest
        names = plan.units.names
        complete = not log.failures
        if complete and manifest.state != "finished":
            finish_dataset(folder, manifest, names)
        finished = names if complete else finished_units(folder)
        seconds = log.seconds if missing else None
        table = summary_table(summarise(folder, finished), title=f"dataset {out}", seconds=seconds)
        if not complete:
            table.add_row("units not made", f"{len(log.failures):,}")
        console.print(table)
    for failure in log.failures[:MOST_SHOWN]:
        console.print(f"unit {failure.unit} was not made: {failure.reason}", markup=False, highlight=False)
    if len(log.failures) > MOST_SHOWN:
        console.print(f"and {len(log.failures) - MOST_SHOWN:,} more, all of them in {folder.url}/{log.name}")
    if not complete:
        console.print("the same command tries them again")
    return complete


def _adopt(folder: Folder, plan: Plan, done: Sequence[str]) -> int:
    """Check, now that no other run can interfere, that what is finished belongs to this run; its failed views."""
    existing = existing_manifest(folder)
    if existing is not None:
        require_same_run(existing, plan.manifest.fingerprinted, where=f"the output directory {folder.url}")
    # Without its manifest nothing but the indexes themselves can say whose they are.
    most_opened = MOST_OPENED if existing is not None else len(done)
    failed = failed_views(folder, done, plan.units, plan.manifest.fingerprint, most_opened=most_opened)
    _require_few_failures(plan, failed)
    return failed


def _begin(folder: Folder, plan: Plan, quantizer: Quantizer) -> Manifest:
    """The folder's manifest, written where there is none or it says that all units are there.

    Codes are worth nothing without the quantizer beside them.
    """
    existing = existing_manifest(folder)
    if existing is not None:
        if existing.state == "finished":
            existing = reopened(existing)
            write_manifest(folder, existing)
        return existing
    manifest = plan.manifest
    if plan.recipe.store.image == "none":
        manifest = manifest.model_copy(update={"quantizer_files": _ship_quantizer(folder, quantizer)})
    write_manifest(folder, manifest)
    return manifest


def _drive(
    plan: Plan,
    missing: UnitTable,
    folder: Folder,
    runner: Runner,
    log: RunLog,
    console: Console,
    failed: int,
) -> int:
    """Run the missing units; how many views of the whole dataset failed."""
    settings = WorkerSettings(
        recipe=plan.recipe,
        class_names=plan.class_names,
        out=folder.url,
        fingerprint=plan.manifest.fingerprint,
        source_identity=plan.source_identity,
        weights=plan.manifest.fingerprinted["weights"],
        libraries=library_versions(),
        lease=lease_token(folder),
    )
    views = missing.num_samples * len(plan.recipe.views.attacked)
    with (
        told_of_interruption("ending the units in hand; the same command goes on from there"),
        closing(runner.run(iter(missing), settings)) as events,
        RunProgress(console, units=len(missing), views=views) as progress,
    ):
        for event in events:
            if isinstance(event, ViewsDone):
                progress.views_done(event.count)
                continue
            if isinstance(event, Note):
                progress.note(event.text)
                continue
            log.add(event)
            unit_failed = 0 if isinstance(event, UnitFailure) else event.failed
            progress.unit_done(unit_failed)
            failed += unit_failed
            if isinstance(event, UnitReport):
                _require_few_failures(plan, failed, event.failed_example)
    return failed


def _require_few_failures(plan: Plan, failed: int, example: str = "") -> None:
    if failed <= plan.recipe.max_failure_rate * plan.num_views:
        return
    last = f" (for example {example})" if example else ""
    raise TooManyFailuresError(
        f"{failed:,} of {plan.num_views:,} views failed, more than max_failure_rate = {plan.recipe.max_failure_rate:g} "
        f"allows{last}. Mend the source, or go on with --set max_failure_rate=... (finished units are kept)"
    )


def _ship_quantizer(folder: Folder, quantizer: Quantizer) -> dict[str, str]:
    """Publish the quantizer; the sha256 of each of its files."""
    hashes = {}
    with tempfile.TemporaryDirectory() as temporary:
        save_quantizer(quantizer, Path(temporary))
        for path in sorted(Path(temporary).iterdir()):
            name, content = f"{QUANTIZER}/{path.name}", path.read_bytes()
            with folder.publish(name) as stream:
                stream.write(content)
            hashes[name] = hashlib.sha256(content).hexdigest()
    return hashes


def _look_at_teacher(plan: Plan, models: Models, console: Console) -> None:
    """Print the teacher's accuracy; UserError where it is near chance and the recipe does not allow that."""
    console.print(f"teacher: {models.teacher.preprocessing}", highlight=False, markup=False, soft_wrap=True)
    with told_of_memory(plan.recipe.compute.batch_size):
        trial = try_teacher(models, plan.recipe, plan.source, plan.units.spread(UNITS_LOOKED_AT))
    if trial is None:
        return
    console.print(
        f"{trial.clean.message()}; after the VQGAN alone {trial.after_vqgan.accuracy:.1%}",
        highlight=False,
        soft_wrap=True,
    )
    if not plan.recipe.check.allow_near_chance:
        require_better_than_chance(trial.clean)
