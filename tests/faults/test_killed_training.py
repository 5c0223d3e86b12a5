"""The real `dad train` under `kill -9` at random moments: the run that comes of it is that of one undisturbed."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import yaml
from dad_process import dad_process, wait_until
from tiny_run import run_recipe, tiny_recipe, write_images, write_quantizer
from tiny_training import checkpoint, flat_tensors, train, training_recipe

from dad_datasets.seeding import generator_for


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("set")
    recipe = tiny_recipe(write_images(base / "tiny"), write_quantizer(base / "quantizer"))
    assert run_recipe(recipe, base / "out")[0]
    return base / "out"


def written(path: Path) -> int:
    """When, in nanoseconds; 0 for never."""
    return path.stat().st_mtime_ns if path.exists() else 0


def written_after(path: Path, moment: int) -> bool:
    return written(path) > moment


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("seed", "kills"), [(0, 1), *(pytest.param(seed, 5, marks=pytest.mark.slow) for seed in (1, 2, 3))]
)
def test_killed_at_random_moments(shards: Path, tmp_path: Path, seed: int, kills: int) -> None:
    # Checkpoints every few steps, for a kill to fall among them; loader workers, who must not outlive the run.
    raw = {**training_recipe(shards), "epochs": 12, "saving": {"every_steps": 3, "every_epochs": 4}}
    raw["compute"] = {**raw["compute"], "workers": 1}
    raw["ema"] = {"decay": 0.9}
    assert train(raw, tmp_path / "whole")[0]
    out, path = tmp_path / "out", tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(raw))
    for number in range(kills):
        rng = generator_for("killed training", seed, number)
        with dad_process("train", str(path), "--out", str(out)) as run:
            # After some more checkpoints, then anywhere in the next steps: among the files of a checkpoint, too.
            for _ in range(int(rng.integers(1, 3))):
                wait_until(partial(written_after, out / "last.pt", written(out / "last.pt")), run)
            time.sleep(float(rng.random()) * 0.3)
            os.killpg(run.pid, signal.SIGKILL)
            assert run.wait() == -signal.SIGKILL
    with dad_process("train", str(path), "--out", str(out)) as run:
        output, _ = run.communicate()
        assert run.returncode == 0, output
    assert "going on after step" in output
    ours, undisturbed = flat_tensors(checkpoint(out)), flat_tensors(checkpoint(tmp_path / "whole"))
    assert ours.keys() == undisturbed.keys()
    assert all(ours[name].equal(undisturbed[name]) for name in ours)
    assert (out / "summary.csv").read_bytes() == (tmp_path / "whole/summary.csv").read_bytes()
    names = {path.name for path in out.iterdir() if path.suffix == ".pt"}
    assert names == {path.name for path in (tmp_path / "whole").iterdir() if path.suffix == ".pt"}
    assert not list(out.rglob(".tmp-*"))
