"""docker/reproduce.sh and what it compares with: right figures pass, wrong, missing and absurd ones do not."""

from __future__ import annotations

import json
import math
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import figures
import pytest
from fake_docker import FakeDocker
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "docker" / "reproduce.sh"
EXPECTED = sorted(ROOT.glob("docker/expected/*.json"))

RESULT = {"shards": {"PSNR": 30.5, "ok": 1}, "students": {"ce": {"MNIST test": 0.97}}}


WRITE_RESULT = f"""
import json
json.dump({RESULT!r}, open("runs/written.json", "w"))
"""


@dataclass(frozen=True)
class Run:
    """How docker/reproduce.sh ended, and the containers that it ran."""

    status: int
    stdout: str
    stderr: str
    containers: list[list[str]]


def reproduce(folder: Path, figures: dict[str, float], *options: str, program: str = WRITE_RESULT) -> Run:
    """The script over a file of two steps, one an image: `program` writes, then a copy shows that it is seen."""
    content = {
        "steps": [
            {"image": "pipeline", "command": "python runs/write.py"},
            {"image": "trainer", "command": "cp runs/written.json runs/result.json"},
        ],
        "results": {"out": "runs/result.json"},
        "figures": [{"why": "a test", "tolerance": 0.01, "expected": figures}],
    }
    (folder / "out").mkdir(exist_ok=True)
    (folder / "out" / "write.py").write_text(program)
    (folder / "small.json").write_text(json.dumps(content))
    docker = FakeDocker(folder)
    command = [str(SCRIPT), "small.json", "--out", "out", *options]
    result = subprocess.run(command, cwd=folder, env=docker.environment(), capture_output=True, text=True)
    return Run(result.returncode, result.stdout, result.stderr, docker.calls("run"))


def test_right_figures_end_in_status_0_and_a_table(tmp_path: Path) -> None:
    run = reproduce(tmp_path, {"out/shards/PSNR": 30.505, "out/students/ce/MNIST test": 0.97})
    assert run.status == 0, run.stderr
    row = next(line for line in run.stdout.splitlines() if line.startswith("out/shards/PSNR"))
    assert row.split() == ["out/shards/PSNR", "30.5", "0.01", "30.5", "yes"]
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == RESULT


@pytest.mark.parametrize(
    ("path", "value"), [("out/shards/PSNR", 30.6), ("out/students/ce/other", 0.97), ("out/shards", 0.0)]
)
def test_a_wrong_or_missing_figure_ends_in_status_1(tmp_path: Path, path: str, value: float) -> None:
    run = reproduce(tmp_path, {path: value, "out/shards/ok": 1})
    assert run.status == 1
    rows = {line.split("  ")[0]: line.split()[-1] for line in run.stdout.splitlines() if "  " in line}
    assert rows[path] == "NO"
    assert rows["out/shards/ok"] == "yes"


def test_every_step_runs_in_its_image_as_the_caller_with_the_same_folders(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    run = reproduce(tmp_path, {"out/shards/ok": 1}, "--data", str(tmp_path / "datasets"), "--gpus")
    calls = [" ".join(arguments) for arguments in run.containers]
    assert [re.findall(r"dad-(\w+):\S+ (\S+)", call)[0] for call in calls] == [
        ("pipeline", "python"),
        ("pipeline", "python"),
        ("trainer", "cp"),
        ("pipeline", "python"),
    ]
    for call in calls:
        assert f"--volume {tmp_path}/out:/dad/runs" in call
        assert f"--volume {tmp_path}/datasets:/dad/data:ro" in call
        assert re.search(r"--user \d+:\d+ ", call)
        assert "--gpus all" in call


def test_a_step_that_fails_ends_it_before_the_next(tmp_path: Path) -> None:
    run = reproduce(tmp_path, {"out/shards/ok": 1}, program="raise SystemExit(3)")
    assert run.status == 1
    assert "the same command continues" in run.stderr
    assert not (tmp_path / "out" / "result.json").exists()


def test_compare_alone_runs_no_step(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text(json.dumps(RESULT))
    run = reproduce(tmp_path, {"out/shards/ok": 1}, "--compare")
    assert run.status == 0, run.stderr
    assert not (tmp_path / "out" / "written.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "nothing: no figures are committed for it; there are: cifar10"),
        ([], "which reproduction?"),
        (["demo", "--engine", "lxc"], "allowed are docker, podman and buildah"),
        (["demo", "--data", "/nowhere"], "--data /nowhere: no such folder"),
        (["demo", "--fast"], "--fast: no such option"),
        (["demo", "--out"], "--out: a value is missing"),
        (["demo", "cifar10"], "one name at a time"),
    ],
)
def test_mistakes_are_one_sentence_and_status_2(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    command = [str(SCRIPT), *arguments]
    result = subprocess.run(command, env=FakeDocker(tmp_path).environment(), capture_output=True, text=True)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_image_that_was_not_built_is_named(tmp_path: Path) -> None:
    missing = f"dad-trainer:{version('discrete-adversarial-distillation')}"
    engine = FakeDocker(tmp_path, missing=[missing])
    command = [str(SCRIPT), "demo", "--out", str(tmp_path / "out")]
    result = subprocess.run(command, env=engine.environment(), capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == f"error: {missing}: no such image; docker/build.sh makes it\n"
    assert not engine.calls("run")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"steps": [], "results": {}}',
        '{"steps": [{"image": "base", "command": "x"}], "results": {}, "figures": []}',
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(figures.ReproductionError, match=re.escape(str(path))):
        figures.read_reproduction(path)


def test_results_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(figures.ReproductionError, match=r"gone\.json"):
        figures.read_results({"out": str(tmp_path / "gone.json")})


def test_no_figures_at_all_are_no_agreement() -> None:
    assert not figures.compare([], {})[1]


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e3), st.floats(-3, 3))
def test_a_figure_agrees_within_its_tolerance_and_nowhere_else(expected: float, tolerance: float, off: float) -> None:
    figure = figures.Figure("x", expected, tolerance)
    if not math.isclose(abs(off), 1, rel_tol=1e-6) and tolerance > 1e-9 * abs(expected):
        assert figures.agrees(figure, expected + off * tolerance) == (abs(off) < 1)
    assert not figures.agrees(figure, math.nan)
    assert not figures.agrees(figure, math.inf)


@pytest.mark.parametrize("path", EXPECTED, ids=lambda path: path.stem)
def test_committed_files_are_complete(path: Path) -> None:
    committed = figures.read_reproduction(path)
    assert len(committed.figures) >= 5
    assert all(math.isfinite(figure.expected) and figure.tolerance > 0 for figure in committed.figures)
    assert {figure.path.split("/")[0] for figure in committed.figures} == set(committed.results)
    assert all(group["why"] for group in json.loads(path.read_text())["figures"])
    for step in committed.steps:
        for argument in step.command:
            assert not argument.startswith("recipes/") or (ROOT / argument).exists(), argument


def test_the_demo_s_steps_are_the_makefile_s() -> None:
    makefile = (ROOT / "Makefile").read_text()
    demo = re.search(r"^demo:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert demo is not None
    ours = [step.command for step in figures.read_reproduction(ROOT / "docker/expected/demo.json").steps]
    without_path = [command[2:] if command[0] == "env" else command for command in ours]
    assert [" ".join(command) for command in without_path] == [
        line.strip().removeprefix("$(BIN)/") for line in demo[1].splitlines()
    ]


def test_scripts_that_import_their_neighbours_are_told_where(tmp_path: Path) -> None:
    """In the images PYTHONSAFEPATH keeps a script's own folder off sys.path."""
    steps = figures.read_reproduction(ROOT / "docker/expected/demo.json").steps
    digits = next(step.command for step in steps if "recipes/demo/digits.py" in step.command)
    environment = FakeDocker(tmp_path).environment() | {"PYTHONSAFEPATH": "1"}
    subprocess.run([*digits[:-1], tmp_path / "digits"], cwd=ROOT, env=environment, check=True)
    assert (tmp_path / "digits" / "test-00000-of-00001.parquet").exists()
