"""From finished students to what the experiment reports: JSON, a table, a chart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import timm
from machine import hardware, versions
from rich.console import Console
from torch import Tensor, nn

from dad_datasets.folder import LocalFolder
from dad_datasets.settings import load_settings, read_recipe
from dad_datasets.summary import finished_units, summarise
from dad_pipeline.recipe import Recipe
from dad_pipeline.teachers.resize import resize
from dad_trainer.evaluation import EvaluationRecipe, Summary, evaluate_student
from dad_trainer.evaluation import summarise as summarise_rows
from dad_trainer.evaluation.chart import draw_chart
from dad_trainer.evaluation.session import evaluate_checkpoints
from dad_trainer.students import Student
from dad_trainer.sweep.comparison import compare, differences, markdown

RESULTS = Path("benchmarks/results/robustness")
REFERENCE = "kd"
TEACHER = "teacher"


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


def _weights_of_teacher(recipe: Path) -> Path:
    return Path(read_recipe(recipe)["teacher"]["checkpoint"])


def set_figures(folder: Path) -> dict[str, float]:
    """Means over a set's views, as in the closing table of `dad generate`."""
    dataset = LocalFolder(folder)
    return {name: mean.value for name, mean in summarise(dataset, finished_units(dataset)).means.items()}


def write_results(title: str, stage: Path, *, students: Path, test: Path, generation: Path) -> None:
    """Evaluate every student of the stage, and the teacher, on the test recipe, and write the files of results.

    `stage` is its folder; `students` the sweep file, `test` the evaluation recipe, `generation` the recipe that has the
    teacher, beside whose weights stand the figures of its training. The files have the stage's name.
    """
    console = Console()
    evaluation = load_settings(EvaluationRecipe, test)
    files = {path.parent.name: path for path in sorted((stage / "students").glob("*-seed*/last.pt"))}
    summaries = evaluate_checkpoints(files, evaluation, stage / "test", console=console)
    by_run = {_run(student): each for student, each in summaries.items()}
    teacher = _teacher_row(evaluation, generation, stage / "teacher-test.json")
    sweep = read_recipe(students)
    table, compared = compare(by_run), differences(by_run, REFERENCE)
    document = {
        "title": title,
        "hardware": hardware(),
        "versions": versions("torch", "timm"),
        "seeds": sorted({seed for _, seed in by_run}),
        "training": read_recipe(Path(sweep["train"])),
        "sweep": sweep,
        "seconds": json.loads((stage / "times.json").read_text()),
        "teacher_training": json.loads(_weights_of_teacher(generation).with_suffix(".json").read_text()),
        "teacher": teacher,
        "sets": {folder.name: set_figures(folder) for folder in sorted((stage / "sets").iterdir()) if folder.is_dir()},
        "students": {student: {k: asdict(v) for k, v in row.items()} for student, row in table.items()},
        f"less_{REFERENCE}": {student: {k: asdict(v) for k, v in row.items()} for student, row in compared.items()},
        "runs": {student: [asdict(summary) for summary in each] for student, each in summaries.items()},
    }
    folder = LocalFolder(RESULTS)
    with folder.publish(f"{stage.name}.json") as stream:
        stream.write((json.dumps(document, indent=1) + "\n").encode())
    with folder.publish(f"{stage.name}.md") as stream:
        stream.write(f"{title}\n\n{markdown(table, compared, REFERENCE)}".encode())
    with folder.publish(f"{stage.name}.png") as stream:
        draw_chart(_over_seeds(by_run), stream)
    print(f"{RESULTS / stage.name}.json, .md, .png")


def _teacher_row(test: EvaluationRecipe, recipe: Path, kept: Path) -> dict[str, dict[str, object]]:
    """By benchmark; kept in a file, for it takes minutes."""
    if not kept.exists():
        rows = evaluate_student(load_teacher(recipe), test.benchmarks, run=test.run)
        found = {summary.benchmark: asdict(summary) for summary in summarise_rows(rows)}
        with LocalFolder(kept.parent).publish(kept.name) as stream:
            stream.write(json.dumps(found, indent=1).encode())
    row: dict[str, dict[str, object]] = json.loads(kept.read_text())
    return row


def _run(student: str) -> tuple[str, int]:
    """(student, seed) of a run's folder."""
    name, _, seed = student.rpartition("-seed")
    return name, int(seed)


def _over_seeds(by_run: Mapping[tuple[str, int], Sequence[Summary]]) -> dict[str, list[Summary]]:
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
