"""Students run over benchmarks: every image decoded once, every corruption made once, for all students."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dad_datasets.benchmarks import BenchmarkSettings
from dad_datasets.torch_devices import choose_device, exact_float32, full_memory_as_sentence
from dad_trainer.evaluation.assignment import assign
from dad_trainer.evaluation.inference import Inference
from dad_trainer.evaluation.ledger import Ledger
from dad_trainer.evaluation.result import Result
from dad_trainer.evaluation.row_finder import Report, RowFinder
from dad_trainer.evaluation.settings import RunSettings
from dad_trainer.students import Student


def evaluate_student(
    student: Student,
    benchmarks: Sequence[BenchmarkSettings],
    *,
    run: RunSettings | None = None,
    report: Report | None = None,
) -> list[Result]:
    """The rows of one student: benchmark by benchmark, condition by condition. UserError as `evaluate_students`."""
    return evaluate_students({"student": student}, benchmarks, run=run, report=report)["student"]


def evaluate_students(
    students: Mapping[str, Student],
    benchmarks: Sequence[BenchmarkSettings],
    *,
    run: RunSettings | None = None,
    ledger: Ledger | None = None,
    report: Report | None = None,
) -> dict[str, list[Result]]:
    """The rows of each student, by name. Rows that the ledger has are not computed again; new ones are added to it.

    The students' models are left on the device, in evaluation mode, and TF32 is off in this process. UserError before
    any of them runs where a benchmark is not there, is not laid out as published, or does not fit a student; later for
    unreadable images, and where a batch does not fit the device.
    """
    run = run or RunSettings()
    ledger = ledger or Ledger(None, students={name: {} for name in students}, precision=run.precision)
    exact_float32()
    inference = Inference(device=choose_device(run.device, field="run.device"), precision=run.precision)
    assignments = assign(students, benchmarks)
    for student in students.values():
        inference.place(student)
    finder = RowFinder(students, run, inference, ledger, report)
    for assignment in assignments:
        finder.look_up(assignment)
    smaller = f"--set run.batch_size={max(1, run.batch_size // 2)}"
    with full_memory_as_sentence(f"{run.batch_size} images at once do", smaller):
        for assignment in assignments:
            finder.run(assignment)
    return {
        name: [
            finder.rows[name, assignment.settings.name, condition]
            for assignment in assignments
            if name in assignment.students
            for condition in assignment.benchmark.conditions
        ]
        for name in students
    }
