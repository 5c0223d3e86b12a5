"""A sweep from its file to its table."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.settings import build_settings, load_settings, read_recipe
from dad_trainer.evaluation import EvaluationRecipe
from dad_trainer.evaluation.assignment import assign
from dad_trainer.evaluation.session import evaluate_checkpoints
from dad_trainer.sweep.comparison import CALIBRATION, Difference, Spread, compare, differences, markdown
from dad_trainer.sweep.jobs import train_side_by_side
from dad_trainer.sweep.settings import SweepSettings
from dad_trainer.training.checkpoints import LAST, read_checkpoint
from dad_trainer.training.ingredients import gather
from dad_trainer.training.processes import joined_processes
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.run import train_student
from dad_trainer.training.run_folder import RunFolder
from dad_trainer.training.screen import say

TABLE, JSON, DIFFERENCES, EVALUATION = "table.md", "table.json", "differences.json", "evaluation"

Run = tuple[str, int]
"""(student, seed)"""


def run_sweep(sweep: SweepSettings, out: Path, *, jobs: int = 1, console: Console) -> bool:
    """Train and evaluate every student, `jobs` trainings at a time. Whether all of them were trained.

    What is finished is not done again.

    A student whose training fails (its loss stops being a number) is named and the others go on. UserError before the
    first of them where a recipe is wrong, or data or an evaluation benchmark is not there.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("dad sweep runs in one process; start dad train under torchrun for each student instead")
    recipes = recipes_of(sweep)
    evaluation = None if sweep.evaluate is None else load_settings(EvaluationRecipe, Path(sweep.evaluate))
    _check(sweep, recipes, evaluation, out)
    failures = _train_in_turn(recipes, out, console) if jobs == 1 else _train_at_once(recipes, out, jobs, console)
    if failures is None:
        return False
    trained = {run: folder_of(out, run) / LAST for run in recipes if run not in failures}
    if trained:
        console.print(_training_table(trained))
    if evaluation is not None and trained:
        files = {f"{name}-seed{seed}": path for (name, seed), path in trained.items()}
        summaries = evaluate_checkpoints(files, evaluation, out / EVALUATION, console=console)
        by_run = {run: summaries[f"{run[0]}-seed{run[1]}"] for run in trained}
        table = compare(by_run)
        compared = {} if sweep.reference is None else differences(by_run, sweep.reference)
        _write(out, table, compared, sweep.reference)
        console.print(_screen_table(table))
        if compared:
            console.print(_differences_table(compared, str(sweep.reference)))
        say(console, f"{out / TABLE}, {out / EVALUATION}")
    for (name, seed), reason in failures.items():
        say(console, f"student {name}, seed {seed} failed: {reason}")
    return not failures


def _train_in_turn(recipes: dict[Run, TrainingRecipe], out: Path, console: Console) -> dict[Run, str] | None:
    """Why which runs failed; None where they were interrupted."""
    failures: dict[Run, str] = {}
    for number, (run, recipe) in enumerate(recipes.items(), start=1):
        say(console, f"{number}/{len(recipes)}: student {run[0]}, seed {run[1]}")
        try:
            if not train_student(recipe, folder_of(out, run), console=console):
                return None
        except UserError as error:
            failures[run] = str(error)
            say(console, f"student {run[0]}, seed {run[1]} failed: {error}")
    return failures


def _train_at_once(recipes: dict[Run, TrainingRecipe], out: Path, jobs: int, console: Console) -> dict[Run, str] | None:
    """As above, `jobs` at a time, each in a process of its own."""
    folders = {folder_of(out, run): run for run in recipes}
    failed = train_side_by_side({folder: recipes[run] for folder, run in folders.items()}, jobs=jobs, console=console)
    if failed is None:
        say(console, "interrupted: run the same command again to go on from there")
        return None
    return {folders[folder]: reason for folder, reason in failed.items()}


def folder_of(out: Path, run: Run) -> Path:
    """Where a student's run stands."""
    return out / f"{run[0]}-seed{run[1]}"


def recipes_of(sweep: SweepSettings) -> dict[Run, TrainingRecipe]:
    """The recipe of every run, seed by seed. UserError where one is wrong."""
    base = read_recipe(Path(sweep.train))
    return {
        run: build_settings(TrainingRecipe, raw, origin=f"student {run[0]}") for run, raw in sweep.recipes(base).items()
    }


def _check(
    sweep: SweepSettings, recipes: dict[Run, TrainingRecipe], evaluation: EvaluationRecipe | None, out: Path
) -> None:
    """Every student's data, network and folder, and the benchmarks, before hours are spent on the first."""
    students = {}
    for name in sweep.students:
        recipe = recipes[name, sweep.seeds[0]]
        try:
            for seed in sweep.seeds:
                RunFolder(folder_of(out, (name, seed))).require_same(recipes[name, seed])
            with joined_processes(recipe.compute.device) as processes:
                gathered = gather(recipe, processes)
        except UserError as error:
            raise UserError(f"student {name}: {error}") from None
        students[name] = replace(gathered.student, class_names=gathered.sets[0].class_names)
    if evaluation is not None:
        assign(students, evaluation.benchmarks)


def _write(
    out: Path,
    table: dict[str, dict[str, Spread]],
    compared: dict[str, dict[str, Difference]],
    reference: str | None,
) -> None:
    folder = LocalFolder(out)
    with folder.publish(TABLE) as stream:
        stream.write(markdown(table, compared, reference).encode())
    document = {name: {column: asdict(value) for column, value in row.items()} for name, row in table.items()}
    with folder.publish(JSON) as stream:
        stream.write((json.dumps(document, indent=1) + "\n").encode())
    if compared:
        rows = {name: {column: asdict(value) for column, value in row.items()} for name, row in compared.items()}
        with folder.publish(DIFFERENCES) as stream:
            stream.write((json.dumps({"reference": reference, "students": rows}, indent=1) + "\n").encode())


def _training_table(trained: dict[Run, Path]) -> Table:
    """What each run's own history says in the end."""
    screen = Table(title="training", title_justify="left")
    for column in ("student", "seed", "steps", "loss", "training accuracy", "validation accuracy"):
        screen.add_column(column, justify="left" if column == "student" else "right")
    for (name, seed), path in trained.items():
        document = read_checkpoint(path)
        assert isinstance(document, dict), document
        last = document["history"][-1]
        validation = f"{last['val_top1']:.1%}" if "val_top1" in last else "-"
        cells = (str(seed), f"{last['step']:,}", f"{last['train_loss']:.4f}", f"{last['train_top1']:.1%}", validation)
        screen.add_row(Text(name), *cells)
    return screen


def _screen_table(table: dict[str, dict[str, Spread]]) -> Table:
    columns = [name for name in next(iter(table.values())) if not name.endswith(CALIBRATION)]
    screen = Table(title="top-1 accuracy, %, mean over the seeds", title_justify="left")
    screen.add_column("student")
    for column in columns:
        screen.add_column(Text(column), justify="right")
    for name, row in table.items():
        screen.add_row(Text(name), *(row[column].percent() for column in columns))
    return screen


def _differences_table(compared: dict[str, dict[str, Difference]], reference: str) -> Table:
    columns = list(next(iter(compared.values())))
    screen = Table(title=f"less {reference}, in points, with 95 % intervals", title_justify="left")
    screen.add_column("student")
    for column in columns:
        screen.add_column(Text(column), justify="right")
    for name, row in compared.items():
        screen.add_row(Text(name), *(row[column].points() for column in columns))
    return screen
