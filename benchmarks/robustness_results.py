"""From the kept runs of a stage to what the experiment reports: JSON, a table, a chart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
from machine import hardware, versions
from result_tables import table_lines
from robustness_runs import KeptRun, Part, name_of
from torch import Tensor, nn

from dad_datasets.folder import LocalFolder
from dad_datasets.settings import load_settings, read_recipe
from dad_pipeline.recipe import Recipe
from dad_pipeline.teachers.resize import resize
from dad_trainer.evaluation import EvaluationRecipe, Summary, evaluate_student
from dad_trainer.evaluation import summarise as summarise_rows
from dad_trainer.evaluation.chart import draw_chart
from dad_trainer.students import Student
from dad_trainer.sweep.comparison import CALIBRATION, Difference, Spread, compare, differences
from dad_trainer.sweep.run import Run

REFERENCES = ("kd", "noise", "kd_augmix")
"""Those that the others are compared with, seed by seed, where a stage has them."""

PICTURED = "strong"
"""The set whose pictures stand beside the results."""


class Enlarging(nn.Module):
    """A network of larger images, fed with small ones: corruptions then act on the pixels that the students get too."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, images: Tensor) -> Tensor:
        """[n, 3, h, w] to logits [n, classes]; bicubic, as in the pipeline. Normalisation commutes with the resize."""
        logits: Tensor = self.network(resize(images, (self.size, self.size), "bicubic"))
        return logits


def load_teacher(recipe: Path) -> Student:
    """The teacher of a generation recipe, as a student of images of the views' size."""
    generation = load_settings(Recipe, recipe)
    settings, num_classes = generation.teacher, len(generation.class_names or ())
    assert settings.kind == "timm", "the experiment's teachers are timm's"
    network = timm.create_model(
        settings.architecture, num_classes=num_classes, checkpoint_path=str(settings.checkpoint)
    )
    assert settings.image_size is not None
    assert settings.mean is not None
    assert settings.std is not None
    return Student(
        model=Enlarging(network, settings.image_size),
        mean=settings.mean,
        std=settings.std,
        architecture=settings.architecture,
        num_classes=num_classes,
        image_size=generation.views.size,
    )


def write_results(
    title: str,
    runs: Mapping[Run, KeptRun],
    part: Part,
    *,
    stage: Path,
    results: Path,
    sweep: Path,
    evaluation: Path,
    generation: Path,
) -> None:
    """Write the files of a stage's results on `part` into `results`, from those of its runs that have figures of it.

    `stage` is the stage's folder, whose name the files have; `sweep` the sweep file, `evaluation` the recipe of `part`,
    which the teacher is evaluated by too; `generation` the recipe that has the teacher, beside whose weights stand the
    figures of its training.
    """
    by_run = {run: one.figures[part] for run, one in runs.items() if part in one.figures}
    teacher = _teacher_row(load_settings(EvaluationRecipe, evaluation), generation, stage / f"teacher-{part}.json")
    settings = read_recipe(sweep)
    table = compare(by_run)
    compared = {reference: found for reference in REFERENCES if (found := differences(by_run, reference))}
    times = stage / "times.json"
    document = {
        "title": title,
        "part": part,
        "hardware": hardware(),
        "versions": versions("torch", "timm"),
        "seeds": sorted({seed for _, seed in by_run}),
        "training": read_recipe(Path(settings["train"])),
        "sweep": settings,
        "seconds": json.loads(times.read_text()) if times.exists() else {},
        "teacher_training": json.loads(_weights_of_teacher(generation).with_suffix(".json").read_text()),
        "teacher": teacher,
        "sets": {name: figures for run in by_run for name, figures in runs[run].sets.items()},
        "students": {student: {k: asdict(v) for k, v in row.items()} for student, row in table.items()},
        **{
            f"less_{reference}": {student: {k: asdict(v) for k, v in row.items()} for student, row in rows.items()}
            for reference, rows in compared.items()
        },
        "runs": {name_of(run): [asdict(summary) for summary in each] for run, each in by_run.items()},
    }
    folder, name = LocalFolder(results), stage.name if part == "test" else f"{stage.name}-{part}"
    with folder.publish(f"{name}.json") as stream:
        stream.write((json.dumps(document, indent=1) + "\n").encode())
    with folder.publish(f"{name}.md") as stream:
        stream.write(f"{title}; {part} images\n\n{results_markdown(table, teacher, compared)}".encode())
    with folder.publish(f"{name}.png") as stream:
        draw_chart(_over_seeds(by_run), stream)
    picture = stage / "sets" / f"{PICTURED}.png"
    if picture.exists():
        with folder.publish(f"{stage.name}-{PICTURED}.png") as stream:
            stream.write(picture.read_bytes())
    print(f"{results / name}.json, .md, .png")


def results_markdown(
    table: Mapping[str, Mapping[str, Spread]],
    teacher: Mapping[str, Mapping[str, Any]],
    compared: Mapping[str, Mapping[str, Mapping[str, Difference]]],
) -> str:
    """Accuracies with the teacher's, calibration errors, and for each reference what the students have above it."""
    columns = list(next(iter(table.values())))
    benchmarks = [column for column in columns if not column.endswith(CALIBRATION)]
    head = ["student", "seeds", *benchmarks]
    lines: list[str] = []
    for what, key, ending in (("Top-1 accuracy", "accuracy", ""), ("Expected calibration error", "ece", CALIBRATION)):
        own = [f"{100 * teacher[benchmark][key]:.1f}" for benchmark in benchmarks]
        rows = [["teacher", "", *own]]
        for student, figures in table.items():
            seeds = str(next(iter(figures.values())).seeds)
            rows.append([student, seeds, *(figures[f"{benchmark}{ending}"].percent() for benchmark in benchmarks)])
        lines += [f"{what} in %, mean ± standard deviation.", "", *table_lines(head, rows, numbers_from=1), ""]
    for reference, students in compared.items():
        lines += [f"Less {reference}, in points, seed by seed: mean ± half the 95 % interval (Student's t).", ""]
        rows = [
            [student, str(next(iter(row.values())).seeds), *(row[benchmark].points() for benchmark in benchmarks)]
            for student, row in students.items()
        ]
        lines += [*table_lines(head, rows, numbers_from=1), ""]
    return "\n".join(lines)


def _weights_of_teacher(recipe: Path) -> Path:
    return Path(read_recipe(recipe)["teacher"]["checkpoint"])


def _teacher_row(evaluation: EvaluationRecipe, recipe: Path, kept: Path) -> dict[str, dict[str, object]]:
    """By benchmark; kept in a file, for it takes minutes."""
    named = {benchmark.name for benchmark in evaluation.benchmarks}
    if not kept.exists() or json.loads(kept.read_text()).keys() != named:
        rows = evaluate_student(load_teacher(recipe), evaluation.benchmarks, run=evaluation.run)
        found = {summary.benchmark: asdict(summary) for summary in summarise_rows(rows)}
        with LocalFolder(kept.parent).publish(kept.name) as stream:
            stream.write(json.dumps(found, indent=1).encode())
    row: dict[str, dict[str, object]] = json.loads(kept.read_text())
    return row


def _over_seeds(by_run: Mapping[Run, Sequence[Summary]]) -> dict[str, list[Summary]]:
    """For the chart: each student's summaries with the accuracies of its seeds averaged."""
    averaged: dict[str, list[Summary]] = {}
    for student in dict.fromkeys(name for name, _ in by_run):
        runs = [each for (name, _), each in by_run.items() if name == student]
        averaged[student] = [
            Summary(
                benchmark=first.benchmark,
                num_images=first.num_images,
                accuracy=_mean([run[place].accuracy for run in runs]),
                top5=None,
                ece=_mean([run[place].ece for run in runs]),
                nll=_mean([run[place].nll for run in runs]),
                corruptions={key: _mean([run[place].corruptions[key] for run in runs]) for key in first.corruptions},
            )
            for place, first in enumerate(runs[0])
        ]
    return averaged


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
