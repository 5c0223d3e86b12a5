"""What `dad train`, `dad sweep` and `dad evaluate` leave, read as plain YAML, CSV and JSON.

The trainer need not be installed; that the names and columns are the trainer's own is held by a test.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dad_datasets.errors import UserError
from dad_datasets.settings import read_recipe

ARGS, SUMMARY = "args.yaml", "summary.csv"
EVALUATION, RESULTS = "evaluation", "results.json"

History = Sequence[Mapping[str, float]]
"""A row for each finished epoch; columns that a row lacks are absent from it."""


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """One student's training."""

    folder: str
    student: str
    seed: int
    recipe: Mapping[str, Any]
    history: History


@dataclass(frozen=True, kw_only=True)
class Score:
    """A student on one benchmark under one condition; shares in [0, 1]."""

    benchmark: str
    corruption: str | None
    severity: int | None
    num_images: int
    num_bad: int
    top1: float


@dataclass(frozen=True, kw_only=True)
class BenchmarkSummary:
    """A student's means on one benchmark, as `dad evaluate` takes them."""

    benchmark: str
    num_images: int
    accuracy: float
    ece: float
    mce: float | None
    corruptions: Mapping[str, float]
    """Accuracy on each corruption, mean over the severities; empty for a benchmark without."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One checkpoint's results."""

    student: str
    seed: int
    summaries: Sequence[BenchmarkSummary]
    scores: Sequence[Score]


@dataclass(frozen=True, kw_only=True)
class TrainingFolder:
    """A run, a sweep's runs with their evaluation, or an evaluation alone."""

    runs: Sequence[TrainingRun]
    evaluated: Sequence[Evaluated] = field(default_factory=tuple)


def read_training_folder(path: Path) -> TrainingFolder | None:
    """What stands in `path`; None where it is nothing of the trainer's. UserError where a file of it is damaged."""
    children = sorted(path.iterdir()) if path.is_dir() else []
    runs = [_read_run(folder) for folder in (path, *children) if (folder / ARGS).exists()]
    results = next((file for file in (path / RESULTS, path / EVALUATION / RESULTS) if file.exists()), None)
    evaluated = () if results is None else _read_results(results)
    if not runs and not evaluated:
        return None
    # The evaluation has the students in the order of the sweep's file, a listing of folders has not.
    order = {(each.student, each.seed): place for place, each in enumerate(evaluated)}
    runs.sort(key=lambda run: (order.get((run.student, run.seed), len(order)), run.folder))
    return TrainingFolder(runs=runs, evaluated=evaluated)


def _read_run(path: Path) -> TrainingRun:
    recipe = read_recipe(path / ARGS, origin="training run")
    seed = recipe.get("seed", 0)
    if not isinstance(seed, int):
        raise UserError(f"{path / ARGS}: seed = {seed!r}: expected a whole number")
    name = path.resolve().name
    return TrainingRun(
        folder=name,
        student=name.removesuffix(f"-seed{seed}"),
        seed=seed,
        recipe=recipe,
        history=_read_history(path / SUMMARY),
    )


def _read_history(path: Path) -> History:
    """Empty before the first epoch is finished."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    rows = []
    for row in csv.DictReader(io.StringIO(text)):
        try:
            numbers = {name: float(cell) for name, cell in row.items() if cell}
        except (ValueError, TypeError, AttributeError):
            raise UserError(f"{path}: holds what is no number") from None
        rows.append({name: number for name, number in numbers.items() if math.isfinite(number)})
        if "step" not in rows[-1]:
            raise UserError(f"{path}: lacks the column step")
    return rows


def _read_results(path: Path) -> list[Evaluated]:
    try:
        document = json.loads(path.read_bytes())
        return [_evaluated(student) for student in document["students"]]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is not what dad evaluate writes, or is damaged") from None


def _evaluated(document: Mapping[str, Any]) -> Evaluated:
    student, _, seed = str(document["name"]).rpartition("-seed")
    numbered = bool(student) and seed.isdecimal()
    return Evaluated(
        student=student if numbered else str(document["name"]),
        seed=int(seed) if numbered else 0,
        summaries=[
            BenchmarkSummary(
                benchmark=str(each["benchmark"]),
                num_images=int(each["num_images"]),
                accuracy=float(each["accuracy"]),
                ece=float(each["ece"]),
                mce=None if each.get("mce") is None else float(each["mce"]),
                corruptions={str(name): float(value) for name, value in each["corruptions"].items()},
            )
            for each in document["summaries"]
        ],
        scores=[
            Score(
                benchmark=str(each["benchmark"]),
                corruption=each["corruption"],
                severity=each["severity"],
                num_images=int(each["num_images"]),
                num_bad=int(each.get("num_bad", 0)),
                top1=float(each["top1"]),
            )
            for each in document["results"]
        ],
    )
