"""The files of a finished evaluation: JSON for programs, Markdown and a chart for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dad_datasets.cli import DISTRIBUTION
from dad_datasets.folder import LocalFolder
from dad_trainer.evaluation.chart import draw_chart
from dad_trainer.evaluation.result import Result, Summary, summarise
from dad_trainer.evaluation.settings import EvaluationRecipe
from dad_trainer.evaluation.table import markdown

JSON, MARKDOWN, CHART = "results.json", "results.md", "results.png"
_LIBRARIES = ("numpy", "pillow", "timm", "torch", DISTRIBUTION)


@dataclass(frozen=True, kw_only=True)
class EvaluatedStudent:
    """A student's rows, where its weights are, and what identifies it."""

    checkpoint: Path
    identity: Mapping[str, object]
    results: Sequence[Result]


def summaries_of(students: Mapping[str, EvaluatedStudent], recipe: EvaluationRecipe) -> dict[str, list[Summary]]:
    """The summaries of each student, mCE against the reference errors that the recipe implies."""
    references = {
        benchmark.name: errors
        for benchmark in recipe.benchmarks
        if (errors := getattr(benchmark, "reference_errors", None)) is not None
    }
    return {name: summarise(each.results, references=references) for name, each in students.items()}


def write_report(out: Path, students: Mapping[str, EvaluatedStudent], recipe: EvaluationRecipe) -> list[Path]:
    """Write the three files into `out`, each whole or not at all; their paths."""
    summaries = summaries_of(students, recipe)
    content = {
        "recipe": recipe.model_dump(mode="json"),
        "libraries": {library: _version(library) for library in _LIBRARIES},
        "students": [
            {
                "name": name,
                "checkpoint": str(each.checkpoint),
                **each.identity,
                "summaries": [{**asdict(summary), "mean_error": summary.mean_error} for summary in summaries[name]],
                "results": [asdict(result) for result in each.results],
            }
            for name, each in students.items()
        ],
    }
    folder = LocalFolder(out)
    with folder.publish(JSON) as stream:
        stream.write((json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    with folder.publish(MARKDOWN) as stream:
        stream.write(markdown(summaries).encode())
    with folder.publish(CHART) as stream:
        draw_chart(summaries, stream)
    return [out / name for name in (JSON, MARKDOWN, CHART)]


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return None
