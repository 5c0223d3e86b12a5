"""`dad report` reads what the trainer really writes, without knowing the trainer."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from html_page import captions, cells, checked_page, read_page, section, text_of
from rich.console import Console
from tiny_run import write_images
from tiny_training import training_recipe

from dad_datasets.reporting import training_files
from dad_datasets.reporting.training_page import training_page
from dad_datasets.settings import build_settings
from dad_trainer.evaluation import report as evaluation_report
from dad_trainer.sweep import run as sweep_run
from dad_trainer.sweep.settings import SweepSettings
from dad_trainer.training import run_folder


def test_the_names_are_the_trainers() -> None:
    assert (training_files.ARGS, training_files.SUMMARY) == (run_folder.ARGS, run_folder.SUMMARY)
    assert training_files.RESULTS == evaluation_report.JSON
    assert training_files.EVALUATION == sweep_run.EVALUATION


@pytest.fixture(scope="module")
def sweep(make_set: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with two seeds, trained for an epoch and evaluated."""
    folder = tmp_path_factory.mktemp("sweep")
    images = write_images(folder / "images")
    validation = {"source": {"path": str(images)}}
    recipe = {**training_recipe(make_set("full")), "epochs": 1, "validation": validation}
    (folder / "train.yaml").write_text(yaml.safe_dump(recipe))
    benchmarks = [
        {"name": "clean", "kind": "clean", "path": str(images)},
        {"name": "C", "kind": "corrupted", "path": str(images), "corruptions": ["contrast"], "severities": [1, 2]},
    ]
    (folder / "evaluate.yaml").write_text(yaml.safe_dump({"benchmarks": benchmarks}))
    settings = {
        "train": str(folder / "train.yaml"),
        "evaluate": str(folder / "evaluate.yaml"),
        "students": {"ce": {"loss.name": "ce"}},
        "seeds": [0, 1],
    }
    out, console = folder / "out", Console(file=io.StringIO())
    assert sweep_run.run_sweep(build_settings(SweepSettings, settings, origin="sweep"), out, console=console)
    return out


def test_a_real_sweep(sweep: Path, tmp_path: Path) -> None:
    dad, out = Path(sys.executable).with_name("dad"), tmp_path / "page.html"
    subprocess.run([dad, "report", sweep, "--out", out], check=True, stdout=subprocess.DEVNULL)
    root = read_page(out)
    table = json.loads((sweep / "table.json").read_text())
    overview = cells(next(section(root, "Accuracy and calibration").iter("table")))
    assert [row[0] for row in overview[1:]] == ["ce"]
    for row in overview[1:]:
        figures = table[row[0]]
        expected = (f"{100 * figures[c]['mean']:.1f} ± {100 * figures[c]['deviation']:.1f}" for c in ("clean", "C"))
        assert [row[2], row[4]] == list(expected)
    assert len(cells(next(section(root, "Runs").iter("table")))) == 3
    assert "Runs without" not in text_of(root)
    assert captions(root)[:2] == ["Accuracy on each corruption", "Accuracy by severity"]
    assert "Validation accuracy" in captions(root)


@pytest.mark.parametrize("part", ["ce-seed1", "evaluation"])
def test_a_part_of_it(sweep: Path, part: str) -> None:
    folder = training_files.read_training_folder(sweep / part)
    assert folder is not None
    checked_page(training_page(folder, name=part, baseline=None))
