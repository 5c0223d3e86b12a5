"""Sweeps: every student with every seed, one table, what is finished is not done again."""

from __future__ import annotations

import io
import json
import os
import signal
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import scipy.stats
import yaml
from dad_process import dad_process, wait_until
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tiny_run import write_images
from tiny_training import training_recipe

from dad_datasets.errors import UserError
from dad_datasets.settings import build_settings
from dad_trainer.sweep.comparison import difference, spread
from dad_trainer.sweep.run import run_sweep
from dad_trainer.sweep.settings import SweepSettings
from dad_trainer.training.checkpoints import read_checkpoint


@pytest.fixture(scope="module")
def files(make_set: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A sweep of two students and two seeds."""
    folder = tmp_path_factory.mktemp("sweep")
    images = write_images(folder / "images")
    (folder / "train.yaml").write_text(yaml.safe_dump({**training_recipe(make_set("full")), "epochs": 1}))
    benchmarks = [
        {"name": "clean", "kind": "clean", "path": str(images)},
        {"name": "noisy", "kind": "corrupted", "path": str(images), "corruptions": ["contrast"], "severities": [1]},
    ]
    (folder / "evaluate.yaml").write_text(yaml.safe_dump({"benchmarks": benchmarks}))
    return {
        "train": str(folder / "train.yaml"),
        "evaluate": str(folder / "evaluate.yaml"),
        "students": {"ce": {"loss.name": "ce"}, "dad": {}},
        "seeds": [0, 1],
    }


def sweep(raw: dict[str, object], out: Path, *, jobs: int = 1) -> tuple[bool, str]:
    screen = io.StringIO()
    settings = build_settings(SweepSettings, raw, origin="sweep")
    complete = run_sweep(settings, out, jobs=jobs, console=Console(file=screen, width=250))
    return complete, screen.getvalue()


def test_one_command_trains_evaluates_and_compares_all(files: dict[str, object], tmp_path: Path) -> None:
    complete, seen = sweep(files, tmp_path)
    assert complete
    assert seen.count("images through the student") == 4
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    accuracies = {each["name"]: each["summaries"][0]["accuracy"] for each in results["students"]}
    assert list(accuracies) == ["ce-seed0", "dad-seed0", "ce-seed1", "dad-seed1"]
    table = json.loads((tmp_path / "table.json").read_text())
    for name in ("ce", "dad"):
        values = [accuracies[f"{name}-seed{seed}"] for seed in (0, 1)]
        assert table[name]["clean"]["mean"] == pytest.approx(statistics.mean(values))
        assert table[name]["clean"]["deviation"] == pytest.approx(statistics.stdev(values))
    assert "| ce | 2 |" in (tmp_path / "table.md").read_text()
    before = {path: path.read_bytes() for path in tmp_path.glob("*/last.pt")}
    again, seen = sweep(files, tmp_path)
    assert again
    assert seen.count("going on after step") == 4
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_student_that_fails_is_named_and_the_others_go_on(files: dict[str, object], tmp_path: Path) -> None:
    wild = {"optimiser.lr": 1e30, "optimiser.weight_decay": 1e20, "schedule.warmup_epochs": 0}
    students: dict[str, object] = {"wild": wild, "tame": {}}
    complete, seen = sweep({**files, "students": students, "seeds": [0]}, tmp_path)
    assert not complete
    assert "student wild, seed 0 failed: step" in seen
    assert list(json.loads((tmp_path / "table.json").read_text())) == ["tame"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"students": {"a": {"student.architecture": "resnet81"}}}, "student a: student.architecture"),
        ({"students": {"a": {"losss": 1}}}, "student a"),
        ({"students": {"../a": {}}}, "names a folder"),
        ({"seeds": [1, 1]}, "expected each seed once"),
        ({"reference": "kd"}, "'kd' is none of the students ce, dad"),
        ({"evaluate": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
        ({"students": {"a": {"schedule.warmup_epochs": 9}}}, "student a: schedule: the warm-up"),
    ],
)
def test_mistakes_are_told_before_the_first_student(
    files: dict[str, object], tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        sweep({**files, **changes}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_benchmark_that_is_not_there_is_told_before_too(files: dict[str, object], tmp_path: Path) -> None:
    recipe = tmp_path / "evaluate.yaml"
    recipe.write_text(yaml.safe_dump({"benchmarks": [{"name": "a", "kind": "clean", "path": str(tmp_path / "no")}]}))
    with pytest.raises(UserError, match="no: there is no such file or folder"):
        sweep({**files, "evaluate": str(recipe)}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_a_checkpoint_of_every_student_that_runs(files: dict[str, object], tmp_path: Path) -> None:
    """It reaches each from the terminal, and once more from the sweep."""
    path, out = tmp_path / "sweep.yaml", tmp_path / "out"
    # Slow steps, in which the second request comes.
    students = {name: {"student": {"architecture": "resnet50"}, "epochs": 100_000} for name in ("a", "b")}
    path.write_text(yaml.safe_dump({**files, "students": students, "seeds": [0], "evaluate": None}))
    with dad_process("sweep", str(path), "--out", str(out), "--jobs", "2") as run:
        logs = [out / f"{name}-seed0" / "train.log" for name in students]
        wait_until(lambda: all(log.exists() and "steps an epoch" in log.read_text() for log in logs), run)
        os.killpg(run.pid, signal.SIGINT)
        output, _ = run.communicate()
    assert run.returncode == 1, output
    assert "failed" not in output
    for log in logs:
        assert "interrupted after step" in log.read_text()
        assert (log.parent / "last.pt").exists()


def test_several_processes_are_sent_to_dad_train(
    files: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="start dad train under torchrun"):
        sweep(files, tmp_path)


def test_side_by_side_or_in_turn_the_students_are_the_same_and_a_failing_one_stops_no_other(
    files: dict[str, object], tmp_path: Path
) -> None:
    wild = {"optimiser.lr": 1e30, "optimiser.weight_decay": 1e20, "schedule.warmup_epochs": 0}
    students: dict[str, object] = {"wild": wild, "ce": {"loss.name": "ce"}, "dad": {}}
    asked = {**files, "students": students, "seeds": [0], "evaluate": None}
    complete, seen = sweep(asked, tmp_path / "two", jobs=2)
    assert not complete
    assert "wild-seed0 failed: step" in seen
    assert "images through the student" in (tmp_path / "two" / "dad-seed0" / "train.log").read_text()
    sweep({**asked, "students": {"ce": {"loss.name": "ce"}, "dad": {}}}, tmp_path / "one")
    for name in ("ce", "dad"):
        assert weights(tmp_path / "two" / f"{name}-seed0") == weights(tmp_path / "one" / f"{name}-seed0")


def weights(folder: Path) -> dict[str, bytes]:
    document = read_checkpoint(folder / "last.pt")
    assert isinstance(document, dict)
    return {name: value.numpy().tobytes() for name, value in document["state_dict"].items()}


def test_differences_are_paired_by_seed_and_have_student_s_interval(files: dict[str, object], tmp_path: Path) -> None:
    complete, seen = sweep({**files, "reference": "ce"}, tmp_path)
    assert complete
    assert "less ce, in points" in seen
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    accuracy = {each["name"]: each["summaries"][1]["accuracy"] for each in results["students"]}
    gaps = [accuracy[f"dad-seed{seed}"] - accuracy[f"ce-seed{seed}"] for seed in (0, 1)]
    found = json.loads((tmp_path / "differences.json").read_text())["students"]["dad"]["noisy"]
    assert found["mean"] == pytest.approx(statistics.mean(gaps))
    assert "Less ce, in points" in (tmp_path / "table.md").read_text()


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=21))
def test_the_interval_is_scipy_s(values: list[float]) -> None:
    found = difference(values)
    error = scipy.stats.sem(values)
    assert found.half_width == pytest.approx(error * scipy.stats.t.ppf(0.975, len(values) - 1), rel=1e-4, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_spread_is_the_sample_deviation(values: list[float]) -> None:
    result = spread(values)
    assert result.mean == pytest.approx(statistics.fmean(values))
    if len(values) == 1:
        assert result.deviation is None
    else:
        assert result.deviation == pytest.approx(statistics.stdev(values), abs=1e-9)
