"""`dad label` from a recipe to finished labels."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor

from rich.console import Console

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder, require_writable
from dad_datasets.index import read_summary
from dad_datasets.label_comparison import compare_teachers
from dad_datasets.labels import labels_folder
from dad_datasets.layout import MANIFEST
from dad_datasets.lease import only_writer
from dad_datasets.manifest import Manifest, read_manifest, require_same_run, write_manifest
from dad_datasets.shard_table import write_shard_table
from dad_pipeline.labelling.labelled_set import LabelledSet, open_labelled_set
from dad_pipeline.labelling.labelled_unit import Labelling, label_unit
from dad_pipeline.labelling.plan import LabelPlan, plan_labels
from dad_pipeline.labelling.recipe import LabelRecipe
from dad_pipeline.labelling.teacher_comparison import comparison_table
from dad_pipeline.labelling.teacher_look import look_at_teacher
from dad_pipeline.models import num_cores, told_of_memory
from dad_pipeline.teachers.check import require_better_than_chance
from dad_pipeline.unit_loop import make_units, missing_units


def label_dataset(dataset: str, recipe: LabelRecipe, name: str, *, console: Console) -> None:
    """Run the teacher of `recipe` over the set in the folder `dataset`, going on where an earlier run stopped.

    Everything is written under labels/<name>/ of the set, whose own files stay as they are. UserError for a mistake,
    before any work where it can be seen then.
    """
    labelled = open_labelled_set(dataset, recipe.source)
    folder = labels_folder(labelled.folder, name)
    plan = plan_labels(labelled, recipe, _existing(folder))
    require_writable(folder)
    with only_writer(folder), ThreadPoolExecutor(max(2, num_cores()), thread_name_prefix="codec") as pool:
        folder.sweep()
        existing = _existing(folder)
        if existing is not None:
            require_same_run(existing, plan.manifest.fingerprinted, where=f"the labels {folder.url}")
        missing = missing_units(folder, labelled.units, plan.manifest.fingerprint, console)
        done = len(labelled.units) - len(missing)
        console.print(
            f"{len(labelled.units):,} units" + (f"; {done:,} units are finished already" if done else ""),
            highlight=False,
        )
        seconds = None
        if missing:
            if labelled.source is not None:
                labelled.source.preload()
            _look(labelled, plan, pool, console)
            if existing is None or existing.state == "finished":  # of which units are missing again
                write_manifest(folder, plan.manifest)
            labelling = Labelling(
                labelled=labelled,
                recipe=plan.recipe,
                teacher=plan.teacher,
                device=plan.device,
                folder=folder,
                fingerprint=plan.manifest.fingerprint,
                pool=pool,
            )
            with told_of_memory(plan.recipe.compute.batch_size):
                seconds = make_units(
                    missing,
                    lambda unit, on_views: label_unit(unit, labelling, on_views),
                    folder=folder,
                    runner_name="label",
                    console=console,
                )
        if missing or existing is None or existing.state != "finished":
            _finish(folder, labelled, plan.manifest)
        result = compare_teachers(labelled.folder, folder, [unit.unit for unit in labelled.units])
        console.print(comparison_table(result, name=name, title=f"labels {folder.url}", seconds=seconds))


def _existing(folder: Folder) -> Manifest | None:
    existing = read_manifest(folder) if folder.exists(MANIFEST) else None
    if existing is not None and existing.kind != "labels":
        raise UserError(f"{folder.url} holds {existing.kind} shards: choose another name")
    return existing


def _look(labelled: LabelledSet, plan: LabelPlan, pool: Executor, console: Console) -> None:
    """Print the teacher's accuracy; UserError where it is near chance and the recipe does not allow that."""
    console.print(f"teacher: {plan.teacher.preprocessing}", highlight=False, markup=False, soft_wrap=True)
    check = look_at_teacher(labelled, plan, pool)
    if check is None:
        return
    console.print(check.message(), highlight=False, soft_wrap=True)
    if not plan.recipe.check.allow_near_chance:
        require_better_than_chance(check)


def _finish(folder: Folder, labelled: LabelledSet, manifest: Manifest) -> None:
    """Write shards.parquet and, last, the finished manifest, with the totals of the set that it belongs to."""
    write_shard_table(folder, [read_summary(folder, unit.unit) for unit in labelled.units])
    there = labelled.manifest
    totals = {"shards": there.shards, "samples": there.samples, "clean_sha256": there.clean_sha256}
    write_manifest(folder, manifest.model_copy(update={"state": "finished", **totals}))
