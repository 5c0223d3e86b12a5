"""Shards moved between a local disk and a store: a run that is begun goes on in its own order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import torch
from tiny_training import (
    PowerCutError,
    RawRecipe,
    assert_same_run,
    checkpoint,
    cut_power_after,
    train,
    training_recipe,
)

from dad_datasets.errors import UserError
from dad_datasets.settings import build_settings
from dad_trainer.training.checkpoints import Checkpoints
from dad_trainer.training.ingredients import gather
from dad_trainer.training.processes import Processes
from dad_trainer.training.recipe import TrainingRecipe

STORE = "memory://moved-shards"


@pytest.fixture(scope="module")
def local(make_set: Callable[[str], Path]) -> RawRecipe:
    return training_recipe(make_set("full"))


@pytest.fixture
def remote(local: RawRecipe, tmp_path: Path) -> Iterator[RawRecipe]:
    store = fsspec.filesystem("memory")
    store.put(f"{local['shards'][0]['path']}/", f"{STORE}/", recursive=True)
    yield {**local, "shards": [{"path": STORE}], "compute": {**local["compute"], "cache": str(tmp_path / "cache")}}
    store.rm(STORE, recursive=True)


def block_shards(raw: RawRecipe) -> int | None:
    recipe = build_settings(TrainingRecipe, raw, origin="recipe")
    return gather(recipe, Processes(rank=0, count=1, device=torch.device("cpu"))).plan.block_shards


def test_remote_shards_are_shuffled_16_at_a_time_unless_told_otherwise(local: RawRecipe, remote: RawRecipe) -> None:
    assert block_shards(local) is None
    assert block_shards(remote) == 16
    mixed = {**remote, "shards": [*local["shards"], *remote["shards"]]}
    assert block_shards(mixed) == 16
    for raw in (local, remote):
        assert block_shards({**raw, "compute": {**raw["compute"], "block_shards": 2}}) == 2


@pytest.mark.parametrize("moved_to", ["store", "disk"])
def test_shards_that_are_moved_in_mid_epoch_change_nothing(
    local: RawRecipe, remote: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved_to: str
) -> None:
    before, after = (local, remote) if moved_to == "store" else (remote, local)
    train(before, tmp_path / "unmoved")
    train_two_steps(before, tmp_path / "moved", monkeypatch)
    _, seen = train(after, tmp_path / "moved")
    assert "going on after step 2 of 8" in seen
    assert_same_run(tmp_path / "unmoved", tmp_path / "moved")


def test_a_checkpoint_that_does_not_tell_the_order_goes_on_too(
    local: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of earlier versions."""
    train(local, tmp_path / "whole")
    train_two_steps(local, tmp_path / "cut", monkeypatch)
    document = checkpoint(tmp_path / "cut")
    del document["sha256"], document["block_shards"]
    Checkpoints(tmp_path / "cut").save("last.pt", document)
    train(local, tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_set_that_is_named_twice_may_become_two_copies(
    local: RawRecipe, remote: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ({**local["shards"][0], "where": f"view == {view}"} for view in (0, 1))
    before, after = ({**local, "shards": [first, {**second, "path": path}]} for path in (second["path"], STORE))
    train(before, tmp_path / "unmoved")
    train_two_steps(before, tmp_path / "moved", monkeypatch)
    train({**after, "compute": remote["compute"]}, tmp_path / "moved")
    assert_same_run(tmp_path / "unmoved", tmp_path / "moved")


def test_other_sets_in_their_places_are_refused(
    local: RawRecipe, make_set: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"path": str(make_set("clean"))}
    train_two_steps({**local, "shards": [*local["shards"], other]}, tmp_path, monkeypatch)
    for shards in ([other, *local["shards"]], [*local["shards"], *local["shards"]]):
        with pytest.raises(UserError, match=r"is not the set of shards that this run was begun on"):
            train({**local, "shards": shards}, tmp_path, "saving.every_steps=1")


def train_two_steps(raw: RawRecipe, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        cut_power_after(patch, 2)
        with pytest.raises(PowerCutError):
            train(raw, out, "saving.every_steps=1")
