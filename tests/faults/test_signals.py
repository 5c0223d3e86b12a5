"""Two runs on one folder, Ctrl-C once and twice: the real command, real signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from dad_process import dad_process, require_group_gone, wait_until
from faulty_machine import FAULTY_PYTHON, faulty_environment, make_fatal
from tiny_run import RawRecipe, dataset_bytes, run_recipe, tiny_recipe, write_images, write_quantizer

from dad_datasets.errors import UserError
from dad_datasets.layout import LEASE
from dad_datasets.sources import WorkUnit
from dad_pipeline.interruption import interrupted_twice, told_of_interruption
from dad_pipeline.runners.process_runner import ProcessRunner
from dad_pipeline.runners.ray_runner import RayRunner
from dad_pipeline.runners.runner import Event, Runner
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.worker import WorkerSettings

UNITS = 12


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> RawRecipe:
    images = write_images(tmp_path_factory.mktemp("clean") / "tiny")
    return tiny_recipe(images, write_quantizer(tmp_path_factory.mktemp("quantizer"))) | {"samples_per_shard": 2}


@pytest.fixture(scope="module")
def undisturbed(recipe: RawRecipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run_recipe(recipe, folder)[0]
    return dataset_bytes(folder)


def generating(recipe: RawRecipe, folder: Path) -> list[str]:
    """The arguments of a run of `recipe` into folder/out."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return ["generate", str(path), "--out", str(folder / "out")]


def finished(out: Path) -> int:
    return len(list(out.glob("index/*.parquet")))


@pytest.mark.timeout(600)
def test_a_second_run_is_refused_while_the_first_lives_and_not_after_it_was_killed(
    recipe: RawRecipe, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with dad_process(*generating(recipe, tmp_path)) as first:
        wait_until((out / LEASE).exists, first)
        os.killpg(first.pid, signal.SIGSTOP)  # it lives, and will not end before it is looked at
        for _ in range(2):
            with pytest.raises(UserError, match=rf"is being written by another run \(process {first.pid} on .*\)"):
                run_recipe(recipe, out)
        with dad_process(*generating(recipe, tmp_path)) as second:
            output, _ = second.communicate()
            assert second.returncode == 2
            assert f"is being written by another run (process {first.pid} on" in output
            assert "Traceback" not in output
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        assert (out / LEASE).exists()
        assert run_recipe(recipe, out)[0]
    assert dataset_bytes(out) == undisturbed


@pytest.mark.timeout(600)
def test_ctrl_c_once_publishes_the_units_in_hand(recipe: RawRecipe, tmp_path: Path) -> None:
    # Steps enough that the units last for many seconds: on a busy machine the first one is noticed late.
    long = recipe | {"attack": recipe["attack"] | {"steps": 30}}
    assert run_recipe(long, tmp_path / "undisturbed")[0]
    out = tmp_path / "out"
    with dad_process(*generating(long, tmp_path)) as run:
        wait_until(lambda: finished(out) > 0, run)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the workers too
        output, _ = run.communicate()
        assert run.returncode not in (0, -signal.SIGINT), output
        told = (
            "interrupted: ending the units in hand; the same command goes on from there; Ctrl-C again to stop at once"
        )
        assert told in output
        assert "Traceback" not in output
        require_group_gone(run, within_s=60)
    made = dataset_bytes(out)
    assert 0 < finished(out) < UNITS
    assert not [name for name in made if ".tmp-" in name or name == LEASE]
    tars = {Path(name).stem for name in made if name.startswith("shards/")}
    assert tars == {Path(name).stem for name in made if name.startswith("index/")}
    assert list(out.glob("runs/*/run.json"))
    complete, screen = run_recipe(long, out)
    assert complete
    assert "units are finished already" in screen
    assert dataset_bytes(out) == dataset_bytes(tmp_path / "undisturbed")


@dataclass(frozen=True)
class _ImpatientlyClosed:
    """A runner left when all units but the one that hangs are done, after two interrupts whose exceptions were lost."""

    runner: Runner

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        todo, events = UNITS - 1, self.runner.run(units, settings)
        for event in events:
            yield event
            todo -= isinstance(event, UnitReport)
            if not todo:
                for _ in range(2):
                    with suppress(KeyboardInterrupt):
                        signal.raise_signal(signal.SIGINT)
                before_s = time.monotonic()
                events.close()
                assert time.monotonic() - before_s < 60
                raise KeyboardInterrupt


@pytest.mark.timeout(200)
@pytest.mark.parametrize("runner", [ProcessRunner(1), pytest.param(RayRunner(workers=1, address=None), id="ray")])
def test_ctrl_c_twice_is_heeded_wherever_its_exceptions_were_raised(
    recipe: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: Runner
) -> None:
    images = write_images(tmp_path / "tiny")
    make_fatal(images / "class2/7.png", "hangs")
    monkeypatch.setenv("PYTHONPATH", str(FAULTY_PYTHON), prepend=os.pathsep)
    hanging = recipe | {"source": {"path": str(images)}, "check": {"samples": 0}, "stall_timeout_s": None}
    with pytest.raises(KeyboardInterrupt):
        run_recipe(hanging, tmp_path / "out", lambda _: _ImpatientlyClosed(runner))
    assert finished(tmp_path / "out") == UNITS - 1
    assert not list((tmp_path / "out").rglob(".tmp-*"))


def test_interrupts_are_counted_within_the_block_alone() -> None:
    seen = []
    for _ in range(2):
        with told_of_interruption("going on"):
            for _ in range(2):
                seen.append(interrupted_twice())
                with suppress(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
            seen.append(interrupted_twice())
    assert seen == [False, False, True] * 2
    assert not interrupted_twice()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("runner", [["--workers", "2"], ["--runner", "ray", "--workers", "1"]])
def test_ctrl_c_twice_ends_a_run_whose_workers_hang(recipe: RawRecipe, tmp_path: Path, runner: list[str]) -> None:
    images = write_images(tmp_path / "tiny")
    make_fatal(images / "class2/7.png", "hangs")
    hanging = recipe | {"source": {"path": str(images)}, "check": {"samples": 0}}
    arguments = [*generating(hanging, tmp_path), *runner]
    out = tmp_path / "out"
    with dad_process(*arguments, environment=faulty_environment()) as run:
        wait_until(lambda: finished(out) == UNITS - 1, run)
        os.killpg(run.pid, signal.SIGINT)
        assert run.stdout is not None
        for line in run.stdout:
            if "interrupted: " in line:
                break
        assert run.poll() is None  # it waits for the unit that hangs
        os.killpg(run.pid, signal.SIGINT)
        run.wait(60)
        assert run.returncode not in (0, -signal.SIGKILL)
        require_group_gone(run, within_s=60)
    assert not list(out.rglob(".tmp-*"))
    assert not (out / LEASE).exists()
    Path(images / "class2/7.png").write_bytes(b"no image")
    assert run_recipe(hanging | {"max_failure_rate": 0.1, "source": {"path": str(images)}}, tmp_path / "other")[0]
