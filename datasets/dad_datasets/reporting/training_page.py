"""The report of a training run, a sweep or an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from dad_datasets.errors import UserError
from dad_datasets.manifest import flatten
from dad_datasets.reporting.curves_section import curves_section
from dad_datasets.reporting.markup import Child, element
from dad_datasets.reporting.page import Section, page
from dad_datasets.reporting.robustness_section import robustness_sections
from dad_datasets.reporting.table import facts, folded, key_figures, table
from dad_datasets.reporting.training_files import Evaluated, TrainingFolder, TrainingRun

MOST_DIFFERENCES = 40


def training_page(folder: TrainingFolder, *, name: str, baseline: str | None) -> bytes:
    """The page. UserError where `baseline` is none of the evaluated students."""
    runs, evaluated = folder.runs, folder.evaluated
    students = list(dict.fromkeys([*(each.student for each in evaluated), *(run.student for run in runs)]))
    compared = list(dict.fromkeys(each.student for each in evaluated))
    if baseline is not None and baseline not in compared:
        raise UserError(f"--baseline {baseline}: expected one of {', '.join(compared) or 'no students at all'}")
    sections = [_what(runs)] if runs else []
    if evaluated:
        sections += robustness_sections(evaluated, baseline or compared[0])
    if runs:
        sections += [curves_section(runs), _trainings(runs, evaluated)]
    kind, lead = _kind(runs, evaluated, students)
    return page(name, kind, lead, [key_figures(_key(runs, evaluated, students))], sections)


def _kind(runs: Sequence[TrainingRun], evaluated: Sequence[Evaluated], students: Sequence[str]) -> tuple[str, str]:
    if not runs:
        return "Evaluation", f"{len(evaluated)} checkpoints, each on the same benchmarks."
    if len(runs) == 1:
        loss, architecture = _field(runs[0], "loss", "name"), _field(runs[0], "student", "architecture")
        return "Training run", f"A student {architecture}, trained with the loss {loss}."
    seeds = len({run.seed for run in runs})
    who = "One student" if len(students) == 1 else f"{len(students)} students, each"
    return "Sweep", f"{who} trained with {'one seed' if seeds == 1 else f'{seeds} seeds'}."


def _key(runs: Sequence[TrainingRun], evaluated: Sequence[Evaluated], students: Sequence[str]) -> dict[str, str]:
    if len(runs) == 1 and runs[0].history and not evaluated:
        last = runs[0].history[-1]
        shown = {"steps": f"{last['step']:,.0f}", "epochs finished": f"{len(runs[0].history):,}"}
        for label, column in (("training accuracy", "train_top1"), ("validation accuracy", "val_top1")):
            if column in last:
                shown[f"{label}, last epoch"] = f"{last[column]:.1%}"
        best = [row["val_top1"] for row in runs[0].history if "val_top1" in row]
        return {**shown, **({"validation accuracy, best": f"{max(best):.1%}"} if best else {})}
    shown = {"students": f"{len(students):,}", "runs": f"{len(runs or evaluated):,}"}
    if evaluated:
        shown["benchmarks"] = f"{len({s.benchmark for each in evaluated for s in each.summaries}):,}"
        shown["conditions scored"] = f"{sum(len(each.scores) for each in evaluated):,}"
    return shown


def _what(runs: Sequence[TrainingRun]) -> Section:
    """The fields that all runs share in full, those that differ as a table."""
    first = runs[0]
    shards = first.recipe.get("shards") or ()
    pairs: dict[str, Child] = {
        "student": _together(runs, "student", "architecture"),
        "loss": _together(runs, "loss", "name"),
        "shards": ", ".join(str(each.get("path")) for each in shards if isinstance(each, Mapping)),
        "images a step": _together(runs, "batch_size"),
        "seeds": ", ".join(str(seed) for seed in sorted({run.seed for run in runs})),
    }
    content: list[Child] = [facts({name: value for name, value in pairs.items() if value})]
    names = list(dict.fromkeys(run.student for run in runs))
    by_student = {run.student: flatten(run.recipe) for run in reversed(runs)}  # of each its first run
    fields = sorted({name for recipe in by_student.values() for name in recipe} - {"seed"})
    differing = [name for name in fields if len({repr(recipe.get(name)) for recipe in by_student.values()}) > 1]
    if differing:
        rows = [[name, *(_shown(by_student[student].get(name)) for student in names)] for name in differing]
        content.append(
            table(
                "What the students' recipes differ in",
                ["field", *names],
                rows[:MOST_DIFFERENCES],
                texts=1 + len(names),
            )
        )
    recipe = yaml.safe_dump(dict(first.recipe), sort_keys=False, allow_unicode=True)
    content.append(folded(f"The whole recipe of {first.folder}", element("pre", recipe, tabindex=0)))
    return Section(title="What it is", content=content)


def _trainings(runs: Sequence[TrainingRun], evaluated: Sequence[Evaluated]) -> Section:
    """Each run's last epoch, and what did not come to its end."""
    validated = any("val_top1" in row for run in runs for row in run.history)
    headings = ["run", "steps", "training loss", "training accuracy", *(["validation accuracy"] if validated else [])]
    rows = [[run.folder, *_last(run)[: len(headings) - 1]] for run in runs]
    content: list[Child] = [table("The last finished epoch of each run; accuracies in %", headings, rows)]
    scored = {(each.student, each.seed) for each in evaluated}
    left_out = [run.folder for run in runs if scored and (run.student, run.seed) not in scored]
    empty = [run.folder for run in runs if not run.history]
    for reason, folders in (("without a finished epoch", empty), ("without an evaluation", left_out)):
        if folders and len(runs) > 1:
            content.append(element("p", f"Runs {reason}: {', '.join(folders)}.", class_="note"))
    return Section(title="Runs", content=content)


def _last(run: TrainingRun) -> list[str]:
    last = run.history[-1] if run.history else {}
    steps, loss = last.get("step"), last.get("train_loss")
    accuracies = [last.get("train_top1"), last.get("val_top1")]
    return [
        "–" if steps is None else f"{steps:,.0f}",
        "–" if loss is None else f"{loss:.4f}",
        *("–" if share is None else f"{100 * share:.1f}" for share in accuracies),
    ]


def _together(runs: Sequence[TrainingRun], *path: str) -> str:
    return ", ".join(dict.fromkeys(found for run in runs if (found := _field(run, *path))))


def _field(run: TrainingRun, *path: str) -> str:
    value: Any = run.recipe
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)


def _shown(value: object) -> str:
    return "–" if value is None else str(value)
