"""The runs of a stage as they are kept: a file of figures for each student and seed, beside the stage's results.

A stage takes hours. What a run's file holds is not trained or evaluated again, so that a stage can be worked off in
pieces, and on machines that share nothing but the repository; each file names the machine that it was made on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from machine import hardware, versions
from rich.console import Console

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.layout import MANIFEST
from dad_datasets.manifest import flatten, read_manifest
from dad_datasets.settings import Settings, build_settings, load_settings
from dad_datasets.summary import finished_units, summarise
from dad_trainer.evaluation import EvaluationRecipe, Summary
from dad_trainer.evaluation.session import evaluate_checkpoints
from dad_trainer.sweep.run import Run, folder_of
from dad_trainer.sweep.settings import SweepSettings
from dad_trainer.training.checkpoints import LAST, read_checkpoint, tensors_sha256
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.run_folder import RunFolder, changed_fields

Part = Literal["validation", "test"]
"""On which images students are evaluated."""


class KeptRun(Settings):
    """A trained student: what it was, on what machine, and its figures."""

    student: str
    seed: int
    recipe: dict[str, Any]
    shards: dict[str, str]
    """Fingerprints of the sets that it has learnt from, by their paths."""
    attacks: dict[str, dict[str, Any]]
    """What the stage says of those sets, by the names of their folders."""
    sets: dict[str, dict[str, float]]
    """Means over the views of those sets, as in the closing table of `dad generate`, by the names of their folders."""
    hardware: dict[str, str | int | None]
    versions: dict[str, str]
    weights_sha256: str
    """Of the student that the figures are of, all of them."""
    figures: dict[Part, tuple[Summary, ...]]


def name_of(run: Run) -> str:
    """As the sweep names its folder."""
    return folder_of(Path(), run).name


def kept_runs(
    kept: Path, recipes: Mapping[Run, TrainingRecipe], attacks: Mapping[str, Mapping[str, Any]]
) -> dict[Run, KeptRun]:
    """The runs whose files are in the folder `kept`, in the order of `recipes`. `attacks`: the stage's sets.

    UserError where one was trained by another recipe or on sets that the stage now makes otherwise, the fields named,
    or two have learnt from sets of the same path that are not the same: such figures belong in no table together.
    """
    found: dict[Run, KeptRun] = {}
    sets: dict[str, tuple[str, Path]] = {}
    for run, recipe in recipes.items():
        path = kept / f"{name_of(run)}.json"
        if not path.exists():
            continue
        one = build_settings(KeptRun, json.loads(path.read_text()), origin=str(path))
        trained = build_settings(TrainingRecipe, one.recipe, origin=f"{path}: recipe")  # fields newer than it: defaults
        before, now = flatten(trained.model_dump(mode="json")), flatten(recipe.model_dump(mode="json"))
        changed = changed_fields(before, now) + _changed_sets(one, recipe, attacks)
        if changed:
            raise UserError(f"{path} is of a run with other settings ({', '.join(changed)}); remove it to train anew")
        for place, fingerprint in one.shards.items():
            first, of = sets.setdefault(place, (fingerprint, path))
            if first != fingerprint:
                raise UserError(f"{path} and {of} are of students of different sets, both {place}; remove one of them")
        found[run] = one
    return found


def _changed_sets(one: KeptRun, recipe: TrainingRecipe, attacks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where the sets that a run has learnt from are others, or made otherwise, than the stage now says."""
    paths = [shards.path for shards in recipe.shards]
    if paths != list(one.shards):
        return ["shards"]
    before, now = flatten(dict(one.attacks)), flatten(attacks_of(recipe, attacks))
    return [f"sets.{field}" for field in sorted({*before, *now}) if before.get(field) != now.get(field)]


def attacks_of(recipe: TrainingRecipe, attacks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a stage says of the sets that a student learns from, by the names of their folders."""
    names = [Path(shards.path).name for shards in recipe.shards]
    return {name: dict(attacks[name]) for name in names if name in attacks}


def require_same_sets(known: Mapping[Run, KeptRun]) -> None:
    """UserError where a set on this machine is not the one of its path that kept runs have learnt from."""
    for run, one in known.items():
        for place, fingerprint in one.shards.items():
            folder = LocalFolder(Path(place))
            if folder.exists(MANIFEST) and read_manifest(folder).fingerprint != fingerprint:
                raise UserError(
                    f"{place} is not the set that {name_of(run)} has learnt from, on another machine or another "
                    "version: students of both belong in no table together; remove the set, or the kept runs"
                )


def keep_runs(
    kept: Path,
    stage: Path,
    recipes: Mapping[Run, TrainingRecipe],
    attacks: Mapping[str, Mapping[str, Any]],
    part: Part,
    evaluation: Path,
    *,
    console: Console,
) -> None:
    """Evaluate the students that stand trained in the stage's folder and have no figures of `part` yet, and keep them.

    UserError where a folder holds a run of another recipe.
    """
    known = kept_runs(kept, recipes, attacks)
    trained = {run: document for run in recipes if (document := _finished(folder_of(stage / "students", run)))}
    asked = [run for run in trained if run not in known or part not in known[run].figures]
    for run in asked:
        RunFolder(folder_of(stage / "students", run)).require_same(recipes[run])
    if not asked:
        return
    files = {name_of(run): folder_of(stage / "students", run) / LAST for run in trained}
    summaries = evaluate_checkpoints(files, load_settings(EvaluationRecipe, evaluation), stage / part, console=console)
    for run in asked:
        weights = tensors_sha256(trained[run]["state_dict"])
        # Trained anew since, on another machine, it can be another student: then its earlier figures go.
        earlier = known[run].figures if run in known and known[run].weights_sha256 == weights else {}
        paths = [Path(shards.path) for shards in recipes[run].shards]
        one = KeptRun(
            student=run[0],
            seed=run[1],
            recipe=recipes[run].model_dump(mode="json"),
            shards=trained[run]["shards"],
            attacks=attacks_of(recipes[run], attacks),
            sets={path.name: set_figures(path) for path in paths},
            hardware=hardware(),
            versions=versions("torch", "timm"),
            weights_sha256=weights,
            figures={**earlier, part: tuple(summaries[name_of(run)])},
        )
        with LocalFolder(kept).publish(f"{name_of(run)}.json") as stream:
            stream.write((json.dumps(one.model_dump(mode="json"), indent=1) + "\n").encode())


def remaining_sweeps(sweep: SweepSettings, known: Mapping[Run, KeptRun], part: Part) -> list[SweepSettings]:
    """Sweeps, without an evaluation, of the runs that lack figures of `part`; seeds that lack the same are together."""
    lacking: dict[tuple[str, ...], list[int]] = {}
    for seed in sweep.seeds:
        names = [name for name in sweep.students if part not in _figures(known.get((name, seed)))]
        if names:
            lacking.setdefault(tuple(names), []).append(seed)
    return [
        SweepSettings(train=sweep.train, students={name: sweep.students[name] for name in names}, seeds=tuple(seeds))
        for names, seeds in lacking.items()
    ]


def set_figures(folder: Path) -> dict[str, float]:
    """Means over a set's views, as in the closing table of `dad generate`."""
    dataset = LocalFolder(folder)
    return {name: mean.value for name, mean in summarise(dataset, finished_units(dataset)).means.items()}


def _figures(run: KeptRun | None) -> Mapping[Part, tuple[Summary, ...]]:
    return {} if run is None else run.figures


def _finished(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint of a run that is through; None before."""
    if not (folder / LAST).exists():
        return None
    document = read_checkpoint(folder / LAST)
    if not isinstance(document, dict) or document["step"] < document["total_steps"]:
        return None
    return document
