"""Does discrete adversarial distillation make students robust? The experiment on CIFAR-10, in one command.

    python benchmarks/robustness.py recipes/robustness/stage_a.yaml --data DIR              # to the validation figures
    python benchmarks/robustness.py recipes/robustness/stage_a.yaml --data DIR --open-test  # the test images, once

DIR holds CIFAR-10 as on the Hugging Face hub (uoft-cs/cifar10, folder plain_text). What is made is written under
runs/robustness; what is finished is not done again, so that the same command goes on after an interruption. Teacher and
quantizer come with the recipes, in recipes/robustness/weights; without that folder they are trained first, as they
were. The recipe names the sets of adversarial images and the students; its header has the budget and what came of it.

Results go to benchmarks/results/robustness/ as JSON, a table and a chart, beside a folder with a file for each student
and seed. A run that has its file there is not trained again, on this machine or another, and counts in the table: a
stage can be worked off in pieces. `--seeds 0` goes no further than the first seed, `--report-only` trains nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field
from rich.console import Console
from robustness_results import write_results
from robustness_runs import Part, keep_runs, kept_runs, remaining_sweeps, require_same_sets

from dad_datasets.errors import UserError
from dad_datasets.settings import Settings, load_settings
from dad_trainer.sweep.run import recipes_of
from dad_trainer.sweep.settings import SweepSettings
from dad_trainer.training.recipe import TrainingRecipe

RECIPES, WORKSPACE = Path("recipes/robustness"), Path("runs/robustness")
DATA, MODELS = WORKSPACE / "data", RECIPES / "weights"
RESULTS = Path("benchmarks/results/robustness")


class Experiment(Settings):
    """A stage of the experiment."""

    name: str = Field(pattern=r"[a-z0-9_]+", description="Names the folder of the students and the files of results.")
    title: str = Field(description="What this stage is, for the table.")
    images: Literal["train", "tuning"] = Field("train", description="All 45,000 training images, or the first 15,000.")
    quantizer: str = Field(description="Recipe of the VQGAN; its name without suffix is the folder of its weights.")
    sets: dict[str, dict[str, Any]] = Field(description="For each set of shards its name, and fields of generate.yaml.")
    attacked: dict[str, str] = Field(
        default_factory=dict,
        description="For a set whose attack is on a plain student in place of the teacher, as in DAT, the recipe of "
        "its training. The sets that it is trained on stand before this one.",
    )
    compute: dict[str, Any] = Field(default_factory=dict, description="Overrides of generate.yaml's compute section.")
    students: str = Field(description="Sweep file.")
    test: str = Field("recipes/robustness/test.yaml", description="Evaluation recipe of the test images.")

    @property
    def folder(self) -> Path:
        """Of what belongs to this stage alone."""
        return WORKSPACE / self.name

    @property
    def kept(self) -> Path:
        """Of the files of its runs' figures."""
        return RESULTS / self.name


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command, and the file that is there once it is finished; None: the command knows itself."""

    name: str
    command: list[str]
    done: Path | None = None
    sweep: tuple[Path, SweepSettings] | None = None
    """Where the command expects its sweep, and what is written there before."""


def image_steps(data: Path) -> list[Step]:
    """The split of CIFAR-10 in `data`, and the shifts of its test images."""
    return [
        Step(
            name="split",
            command=_script("split_cifar10.py", data=data, out=DATA),
            done=DATA / "test.parquet",
        ),
        Step(
            name="shifts",
            command=_script("make_shifts.py", images=DATA / "test.parquet", out=DATA / "shifts"),
            done=DATA / "shifts" / "pictures.png",
        ),
    ]


def model_steps(experiment: Experiment, sweeps: Sequence[SweepSettings], *, jobs: int) -> list[Step]:
    """From the teacher to the trained students of `sweeps`, in order; the teacher alone where there are none."""
    dad = [str(Path(sys.executable).with_name("dad"))]
    quantizer = MODELS / Path(experiment.quantizer).stem
    first = [
        Step(
            name="teacher",
            command=_script("finetune_teacher.py", data=DATA, out=MODELS / "teacher.safetensors"),
            done=MODELS / "teacher.json",
        )
    ]
    if not sweeps:
        return first
    first.append(
        Step(
            name="quantizer",
            command=[*dad, "train-quantizer", experiment.quantizer, "--out", str(quantizer)],
            done=quantizer / "summary.json",
        )
    )
    for name in _sets_for(experiment, sweeps):
        first += _steps_of_set(experiment, name, quantizer, jobs=jobs)
    for sweep in sweeps:
        seeds = " ".join(map(str, sweep.seeds))
        file = experiment.folder / f"remaining-{seeds.replace(' ', '-')}.yaml"
        command = [*dad, "sweep", str(file), "--out", str(experiment.folder / "students"), "--jobs", str(jobs)]
        first.append(Step(name=f"students, seeds {seeds}", command=command, sweep=(file, sweep)))
    return first


def _sets_for(experiment: Experiment, sweeps: Sequence[SweepSettings]) -> list[str]:
    """The sets that these students learn from, and before them those of the students that are attacked for them."""
    recipes = [recipe for sweep in sweeps for recipe in recipes_of(sweep).values()]
    needed = {Path(shards.path).name for recipe in recipes for shards in recipe.shards}
    attacked = [load_settings(TrainingRecipe, Path(experiment.attacked[n])) for n in needed & set(experiment.attacked)]
    needed |= {Path(shards.path).name for recipe in attacked for shards in recipe.shards}
    return [name for name in experiment.sets if name in needed]


def _steps_of_set(experiment: Experiment, name: str, quantizer: Path, *, jobs: int) -> list[Step]:
    dad = [str(Path(sys.executable).with_name("dad"))]
    out, picture = experiment.folder / "sets" / name, experiment.folder / "sets" / f"{name}.png"
    overrides = {
        "source.path": str(DATA / f"{experiment.images}.parquet"),
        "quantizer.checkpoint": str(quantizer),
        **{f"compute.{field}": value for field, value in experiment.compute.items()},
        **experiment.sets[name],
    }
    first = []
    if name in experiment.attacked:
        recipe, folder = Path(experiment.attacked[name]), experiment.folder / "attacked" / name
        student = load_settings(TrainingRecipe, recipe).student
        plain = {"kind": "timm", "architecture": student.architecture, "checkpoint": str(folder / "last.pt")}
        overrides["attack.model"] = plain | {
            "mean": student.mean,
            "std": student.std,
            "model_kwargs": student.options,
        }
        train = [*dad, "train", str(recipe), "--out", str(folder)]
        first = [Step(name=f"attacked student of {name}", command=train)]
    generate = [*dad, "generate", str(RECIPES / "generate.yaml"), "--out", str(out), *_set(overrides)]
    inspect = [*dad, "inspect", str(out), "--grid", str(picture)]
    return [
        *first,
        Step(name=f"set {name}", command=[*generate, "--workers", str(jobs)], done=out / "shards.parquet"),
        Step(name=f"pictures of {name}", command=inspect, done=picture),
    ]


def _set(overrides: dict[str, Any]) -> list[str]:
    return [part for field, value in overrides.items() for part in ("--set", f"{field}={json.dumps(value)}")]


def _script(name: str, **options: Path) -> list[str]:
    given = [part for option, value in options.items() for part in (f"--{option}", str(value))]
    return [sys.executable, str(RECIPES / name), *given]


def run(step: Step, times: Path) -> None:
    """Run a step unless it is done, and note its seconds in `times`. SystemExit with its status where it fails."""
    if step.done is not None and step.done.exists():
        print(f"== {step.name}: done already", flush=True)
        return
    print(f"== {step.name}: {' '.join(step.command)}", flush=True)
    if step.sweep is not None:
        path, sweep = step.sweep
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(sweep.model_dump(mode="json"), sort_keys=False))
    started = time.perf_counter()
    status = subprocess.run(step.command, check=False).returncode
    if status:
        raise SystemExit(status)
    noted: dict[str, float] = json.loads(times.read_text()) if times.exists() else {}
    # A step that was interrupted and went on has several times; a sweep that finds all its students done, nearly none.
    noted[step.name] = round(noted.get(step.name, 0.0) + time.perf_counter() - started, 1)
    times.parent.mkdir(parents=True, exist_ok=True)
    times.write_text(json.dumps(noted, indent=1) + "\n")


def conduct(
    experiment: Experiment, data: Path, part: Part, *, seeds: Sequence[int] | None, jobs: int, train: bool = True
) -> None:
    """Train what the stage lacks, of these seeds (None: all), and write its results on `part` from all runs there are.

    Without `train`, what is trained already is evaluated and reported. UserError where that is nothing, or runs, kept
    or in the stage's folder, are not what the recipes say.
    """
    whole = load_settings(SweepSettings, Path(experiment.students))
    if seeds is not None and (unknown := sorted(set(seeds) - set(whole.seeds))):
        raise UserError(
            f"--seeds: {experiment.students} has no seed {unknown[0]}, only {', '.join(map(str, whole.seeds))}"
        )
    if whole.evaluate is None:
        raise UserError(f"{experiment.students}: evaluate is missing, the recipe of the validation images")
    recipes = recipes_of(whole)
    evaluation = Path(experiment.test if part == "test" else whole.evaluate)

    def keep() -> None:
        keep_runs(experiment.kept, experiment.folder, recipes, experiment.sets, part, evaluation, console=Console())

    times = experiment.folder / "times.json"
    for step in image_steps(data):
        run(step, times)
    keep()
    wanted = whole if seeds is None else whole.model_copy(update={"seeds": tuple(seeds)})
    known = kept_runs(experiment.kept, recipes, experiment.sets)
    if not train and not any(part in run.figures for run in known.values()):
        raise UserError(
            f"--report-only: no student of {experiment.name} is trained here or has figures of {part} images"
        )
    for step in model_steps(experiment, remaining_sweeps(wanted, known, part), jobs=jobs) if train else ():
        if step.sweep is not None:
            require_same_sets(known)
        run(step, times)
    keep()
    write_results(
        experiment.title,
        kept_runs(experiment.kept, recipes, experiment.sets),
        part,
        stage=experiment.folder,
        results=RESULTS,
        sweep=Path(experiment.students),
        evaluation=evaluation,
        generation=RECIPES / "generate.yaml",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="YAML file of a stage")
    parser.add_argument("--data", type=Path, required=True, help="folder with train-*.parquet and test-*.parquet")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side, each with one thread")
    parser.add_argument("--seeds", type=int, nargs="+", help="train students of these seeds alone; all if not given")
    parser.add_argument("--report-only", action="store_true", help="evaluate and report what is trained; train nothing")
    parser.add_argument("--open-test", action="store_true", help="evaluate on the test images, once all is chosen")
    given = parser.parse_args()
    part: Part = "test" if given.open_test else "validation"
    try:
        experiment = load_settings(Experiment, given.recipe)
        conduct(experiment, given.data, part, seeds=given.seeds, jobs=given.jobs, train=not given.report_only)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
