"""From checkpoint files to a folder of results: what `dad evaluate` does, and a sweep at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder, require_writable
from dad_datasets.layout import MANIFEST
from dad_datasets.lease import Lease
from dad_datasets.output_place import refuse_out_inside_source
from dad_trainer.evaluation.identity import sha256_of_file, student_identity
from dad_trainer.evaluation.ledger import ROWS, Ledger
from dad_trainer.evaluation.report import JSON, EvaluatedStudent, summaries_of, write_report
from dad_trainer.evaluation.result import Summary
from dad_trainer.evaluation.running import evaluate_students
from dad_trainer.evaluation.screen import bad_image_lines, closing_table, progress_line
from dad_trainer.evaluation.settings import EvaluationRecipe
from dad_trainer.students import load_student


def evaluate_checkpoints(
    files: Mapping[str, Path],
    recipe: EvaluationRecipe,
    out: Path,
    *,
    console: Console,
    architecture: str | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    use_ema: bool = True,
) -> dict[str, list[Summary]]:
    """The summaries of each student, by the names that `files` gives; the results are written into `out`.

    Rows that `out` has already are not computed again. What is given of the students goes before what their checkpoints
    say. UserError for a checkpoint that cannot be loaded, a benchmark that is not there or does not fit, an `out` that
    cannot be written or that another run is writing.
    """
    hashes = {name: sha256_of_file(path) for name, path in files.items()}
    students = {
        name: load_student(
            path, architecture=architecture, num_classes=num_classes, image_size=image_size, use_ema=use_ema
        )
        for name, path in files.items()
    }
    identities = {name: student_identity(student, hashes[name], use_ema=use_ema) for name, student in students.items()}
    if recipe.run.threads is not None:
        torch.set_num_threads(recipe.run.threads)
    for benchmark in recipe.benchmarks:
        refuse_out_inside_source(benchmark.path, str(out))
    _require_own_folder(out)
    require_writable(LocalFolder(out))
    with Lease(out):
        ledger = Ledger(out / ROWS, students=identities, precision=recipe.run.precision)
        with progress_line(console) as report:
            rows = evaluate_students(students, recipe.benchmarks, run=recipe.run, ledger=ledger, report=report)
        evaluated = {
            name: EvaluatedStudent(checkpoint=path, identity=identities[name], results=rows[name])
            for name, path in files.items()
        }
        written = write_report(out, evaluated, recipe)
    summaries = summaries_of(evaluated, recipe)
    for line in bad_image_lines([row for each in rows.values() for row in each]):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(closing_table(summaries))
    for path in written:
        console.print(str(path), soft_wrap=True, highlight=False, markup=False)
    return summaries


def _require_own_folder(out: Path) -> None:
    """UserError where `out` holds what an evaluation would overwrite or stand among."""
    if (out / MANIFEST).exists():
        raise UserError(f"{out} holds a dataset: choose another --out")
    if (out / JSON).exists() and not (out / ROWS).exists():
        raise UserError(f"{out / JSON} is there, and no evaluation made it: choose another --out")
