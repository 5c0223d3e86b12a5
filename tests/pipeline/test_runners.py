"""Whatever runs the units, and however often it was interrupted: the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import yaml
from tiny_run import RawRecipe, dataset_bytes, run_recipe, tiny_recipe

from dad_datasets.errors import UserError
from dad_datasets.sources import WorkUnit
from dad_pipeline.commands.generate import RunnerName, generate
from dad_pipeline.models import Models
from dad_pipeline.runners.inline_runner import InlineRunner
from dad_pipeline.runners.process_runner import ProcessRunner
from dad_pipeline.runners.ray_address import require_reachable
from dad_pipeline.runners.ray_runner import RayRunner
from dad_pipeline.runners.runner import Event
from dad_pipeline.shard_generation import GenerationContext, UnitReport, generate_unit
from dad_pipeline.worker import WorkerSettings

UNITS = 3


@pytest.fixture(scope="module")
def reference(images: Path, quantizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The dataset of one undisturbed inline run."""
    out = tmp_path_factory.mktemp("reference")
    complete, _ = run_recipe(tiny_recipe(images, quantizer_folder), out)
    assert complete
    return dataset_bytes(out)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def test_two_inline_runs_are_byte_equal(recipe: RawRecipe, reference: dict[str, bytes], tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path)
    assert dataset_bytes(tmp_path) == reference
    assert len([name for name in reference if name.startswith("shards/")]) == UNITS


def test_another_seed_changes_every_shard(recipe: RawRecipe, reference: dict[str, bytes], tmp_path: Path) -> None:
    recipe["seed"] = 1
    run_recipe(recipe, tmp_path)
    other = dataset_bytes(tmp_path)
    assert all(other[name] != reference[name] for name in reference if name.startswith("shards/"))


def test_two_processes_write_the_same_bytes(recipe: RawRecipe, reference: dict[str, bytes], tmp_path: Path) -> None:
    complete, _ = run_recipe(recipe, tmp_path, lambda _: ProcessRunner(2))
    assert complete
    assert dataset_bytes(tmp_path) == reference


@pytest.mark.usefixtures("ray_cluster")
def test_ray_actors_write_the_same_bytes(recipe: RawRecipe, reference: dict[str, bytes], tmp_path: Path) -> None:
    complete, _ = run_recipe(recipe, tmp_path, lambda _: RayRunner(workers=2, address=None))
    assert complete
    assert dataset_bytes(tmp_path) == reference


@pytest.mark.usefixtures("ray_cluster")
def test_a_users_mistake_in_a_ray_worker_is_raised_as_such(recipe: RawRecipe, tmp_path: Path) -> None:
    class Moved(InlineRunner):
        """Sends workers a recipe whose source is gone."""

        def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
            source = settings.recipe.source.model_copy(update={"path": str(tmp_path / "gone")})
            moved = settings.recipe.model_copy(update={"source": source})
            gone = replace(settings, recipe=moved)
            yield from RayRunner(workers=1, address=None).run(units, gone)

    with pytest.raises(UserError, match="gone"):
        run_recipe(recipe, tmp_path / "out", Moved)


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_that_takes_no_connection_is_refused_at_once(form: str) -> None:
    address = form.format(_closed_port())
    with pytest.raises(
        UserError, match=f"^--ray-address {address}: no Ray cluster could be reached: Connection refused$"
    ):
        require_reachable(address)


@pytest.mark.parametrize("address", ["[::1]:70000", "no-such-host.invalid:6379"])
def test_an_address_that_cannot_be_is_refused(address: str) -> None:
    with pytest.raises(UserError, match="no Ray cluster could be reached"):
        require_reachable(address)


def test_an_address_that_takes_connections_and_a_name_are_left_to_ray() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_reachable(f"127.0.0.1:{server.getsockname()[1]}")
    require_reachable("auto")


def test_a_mistaken_ray_address_is_found_before_anything_is_written(recipe: RawRecipe, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(UserError, match="no Ray cluster could be reached"):
        generate(path, str(tmp_path / "out"), runner=RunnerName.ray, ray_address=f"127.0.0.1:{_closed_port()}")
    assert not (tmp_path / "out").exists()


def test_a_ray_that_does_not_start_is_said_in_a_sentence(
    recipe: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_slow(**_: object) -> None:
        raise Exception("The current node timed out during startup.\nAnd more.")  # Ray's own, word for word

    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # whatever other tests have started
    monkeypatch.setattr(ray, "init", too_slow)
    message = "could not be started on this machine: The current node timed out during startup. Free the machine"
    with pytest.raises(UserError, match=message):
        run_recipe(recipe, tmp_path, lambda _: RayRunner(workers=1, address=None))


class _StopsAfterOneUnit:
    """A runner that is interrupted: it ends its first unit and does no more."""

    def __init__(self, models: Models) -> None:
        self._runner = InlineRunner(models)

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        for event in self._runner.run(iter([next(units)]), settings):
            yield event
            if isinstance(event, UnitReport):
                raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_and_redoes_nothing(
    recipe: RawRecipe, reference: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path, _StopsAfterOneUnit)
    finished = sorted(tmp_path.glob("index/*.parquet"))
    assert len(finished) == 1
    before = finished[0].stat().st_mtime_ns
    complete, screen = run_recipe(recipe, tmp_path)
    assert complete
    assert "1 units are finished already" in screen
    assert finished[0].stat().st_mtime_ns == before
    assert dataset_bytes(tmp_path) == reference


def test_a_finished_dataset_is_left_alone(recipe: RawRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    run_recipe(recipe, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_tar_without_index_is_written_again(recipe: RawRecipe, reference: dict[str, bytes], tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path)
    (tmp_path / "index/tiny-00001.parquet").unlink()
    (tmp_path / "shards/tiny-00001.tar").write_bytes(b"half of a shard")
    (tmp_path / "shards/.tmp-0123-tiny-00001.tar").write_bytes(b"left by a killed writer")
    run_recipe(recipe, tmp_path)
    assert dataset_bytes(tmp_path) == reference


def test_a_changed_recipe_is_refused_with_the_field_named(recipe: RawRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path)
    recipe["attack"]["epsilon"] = 1.5
    with pytest.raises(UserError, match=r"recipe\.attack\.epsilon: 2\.0 there, 1\.5 now"):
        run_recipe(recipe, tmp_path)


def test_moving_the_source_changes_nothing(
    recipe: RawRecipe, reference: dict[str, bytes], tmp_path: Path, images: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/tiny").symlink_to(images)
    recipe["source"]["path"] = str(tmp_path / "elsewhere/tiny")
    run_recipe(recipe, tmp_path / "out")
    moved = dataset_bytes(tmp_path / "out")
    shards = [name for name in reference if name.startswith(("shards/", "index/"))]
    assert {name: moved[name] for name in shards} == {name: reference[name] for name in shards}


@pytest.mark.timeout(240)
def test_a_run_killed_in_the_middle_goes_on_to_the_same_bytes(
    recipe: RawRecipe, reference: dict[str, bytes], tmp_path: Path
) -> None:
    path, out = tmp_path / "recipe.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(recipe))
    command = [str(Path(sys.executable).with_name("dad")), "generate", str(path), "--out", str(out)]
    process = subprocess.Popen([*command, "--workers", "2"], start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 180
    while not list(out.glob("index/*.parquet")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert dataset_bytes(out) == reference


def test_a_killed_worker_is_replaced_and_its_units_made_again(
    recipe: RawRecipe, reference: dict[str, bytes], tmp_path: Path
) -> None:
    class LosesAWorker(ProcessRunner):
        def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
            for number, event in enumerate(super().run(units, settings)):
                if number == 0:
                    for worker in multiprocessing.active_children():
                        worker.kill()
                yield event

    complete, _ = run_recipe(recipe, tmp_path, lambda _: LosesAWorker(1))
    assert complete
    assert dataset_bytes(tmp_path) == reference


def test_a_unit_that_always_fails_is_reported_and_the_others_are_made(
    recipe: RawRecipe, reference: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_on_one(unit: WorkUnit, context: GenerationContext) -> UnitReport:
        if unit.name.endswith("00001"):
            raise RuntimeError("the device fell over")
        return generate_unit(unit, context)

    monkeypatch.setattr("dad_pipeline.worker.generate_unit", fails_on_one)
    complete, screen = run_recipe(recipe, tmp_path)
    assert not complete
    assert "unit tiny-00001 was not made: RuntimeError: the device fell over; tried 3 times" in screen
    assert len(list(tmp_path.glob("index/*.parquet"))) == UNITS - 1
    monkeypatch.undo()
    complete, _ = run_recipe(recipe, tmp_path)
    assert complete
    assert dataset_bytes(tmp_path) == reference
