"""Curves: TensorBoard's, read back from its files, and those of Weights & Biases, which a stand-in takes."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dad_trainer.training.tracking import Tracking


def tracking(folder: Path, *, step: int = 0, project: str | None = None, enabled: bool = True) -> Tracking:
    return Tracking(folder, step=step, wandb_project=project, recipe={"seed": 3}, enabled=enabled)


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_a_run_that_goes_on_earlier_takes_the_place_of_the_points_after(tmp_path: Path) -> None:
    with tracking(tmp_path) as first:
        for step in (10, 20, 30):
            first.add(step, {"loss": 1.0 / step, "lr": 0.5})
    with tracking(tmp_path, step=20) as again:
        again.add(30, {"loss": 0.25, "lr": 0.125})
    assert curve(tmp_path, "lr") == [(10, 0.5), (30, 0.125)]
    assert curve(tmp_path, "loss") == [(10, pytest.approx(0.1)), (30, 0.25)]


def test_processes_that_do_not_lead_write_nothing(tmp_path: Path) -> None:
    with tracking(tmp_path, project="mine", enabled=False) as silent:
        silent.add(1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())


class StandIn(ModuleType):
    """What `import wandb` gives: it notes how it is called."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.begun: list[dict[str, Any]] = []
        self.points: list[tuple[int, dict[str, float]]] = []
        self.ended: list[int] = []

    def init(self, **arguments: Any) -> StandIn:
        self.begun.append(arguments)
        return self

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.points.append((step, values))

    def finish(self, *, exit_code: int) -> None:
        self.ended.append(exit_code)


def test_weights_and_biases_get_the_same_points_and_one_name_for_a_resumed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with suppress(KeyboardInterrupt), tracking(tmp_path, project="mine") as first:
        first.add(20, {"loss": 0.5})
        raise KeyboardInterrupt
    with tracking(tmp_path, step=20, project="mine") as again:
        again.add(40, {"loss": 0.25})
    assert wandb.points == [(20, {"loss": 0.5}), (40, {"loss": 0.25})]
    assert wandb.ended == [1, 0]
    one, other = wandb.begun
    assert one == other
    assert (one["project"], one["config"], one["resume"], one["dir"]) == ("mine", {"seed": 3}, "allow", str(tmp_path))
    assert one["id"] == (tmp_path / "wandb-id").read_text()
