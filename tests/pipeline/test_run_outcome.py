"""How a run ends, for those who are not watching: its exit status, and the log of `runs/`."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import yaml
from tiny_run import RawRecipe, run_recipe
from typer.testing import CliRunner

from dad_datasets.cli import build_app
from dad_datasets.sources import WorkUnit
from dad_pipeline.shard_generation import GenerationContext, UnitReport, generate_unit


@pytest.mark.parametrize("failing", [None, "tiny-00001"])
def test_a_unit_that_failed_is_an_exit_status(
    recipe: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str | None
) -> None:
    def falls(unit: WorkUnit, context: GenerationContext) -> UnitReport:
        if unit.name == failing:
            raise RuntimeError("it fell")
        return generate_unit(unit, context)

    monkeypatch.setattr("dad_pipeline.worker.generate_unit", falls)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe | {"max_retries": 0}))
    arguments = ["generate", str(file), "--out", str(tmp_path / "out"), "--runner", "inline"]
    ended = CliRunner().invoke(build_app(), arguments, catch_exceptions=False)
    assert ended.exit_code == (0 if failing is None else 1), ended.output
    made = {path.stem for path in tmp_path.glob("out/index/*")}
    assert made == {"tiny-00000", "tiny-00001", "tiny-00002"} - {failing}


def test_the_log_says_where_and_how_long_each_unit_was_made(recipe: RawRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path)
    (file,) = tmp_path.glob("runs/*/run.json")
    log = json.loads(file.read_text())
    assert (log["host"], log["runner"]) == (socket.gethostname(), "test")
    assert {unit["unit"]: unit["rows"] for unit in log["units"]} == {
        "tiny-00000": 20,
        "tiny-00001": 20,
        "tiny-00002": 8,
    }
    for stage, spent in log["stage_seconds"].items():
        assert spent == pytest.approx(sum(unit["seconds"].get(stage, 0) for unit in log["units"]), abs=2e-3)
    assert log["wall_s"] > log["stage_seconds"]["models"] > 0
