"""Whole runs from and to S3 under faults: the same bytes as undisturbed on a local disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from faulty_s3 import Fault, FaultyS3, Request, seeded_faults, stored, uploads_left
from s3fs import S3FileSystem
from tiny_run import RawRecipe, dataset_bytes, run_recipe, tiny_recipe, write_images, write_quantizer
from tiny_training import checkpoint, flat_tensors, train, training_recipe

from dad_datasets.commands.inspect import inspect
from dad_datasets.commands.verify import verify
from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.layout import LEASE
from dad_datasets.object_lease import EXPIRY_S
from dad_datasets.preparing import prepare_shards
from dad_datasets.sources import SourceSettings

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
DAD = str(Path(sys.executable).with_name("dad"))
PHOTOS, OUT = "s3://bucket/photos/tiny", "s3://bucket/out"


@pytest.fixture(scope="module")
def images(server: FaultyS3, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On the local disk and at PHOTOS."""
    folder = write_images(tmp_path_factory.mktemp("clean") / "tiny")
    S3FileSystem().put(str(folder), PHOTOS, recursive=True)
    return folder


@pytest.fixture(scope="module")
def recipe(images: Path, tmp_path_factory: pytest.TempPathFactory) -> RawRecipe:
    return tiny_recipe(images, write_quantizer(tmp_path_factory.mktemp("quantizer")))


@pytest.fixture(scope="module")
def undisturbed(recipe: RawRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made on a local disk."""
    folder = tmp_path_factory.mktemp("undisturbed") / "set"
    complete, _ = run_recipe(recipe, folder)
    assert complete
    return folder


def generating(recipe: RawRecipe, folder: Path, *arguments: str) -> list[str]:
    """The command line of a run of `recipe` into OUT."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return [DAD, "generate", str(path), "--out", OUT, *arguments]


def ended(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def made_of_records(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without what says where the source lies."""
    return {name: files[name] for name in files.keys() - {"manifest.json", "README.md", "report.html"}}


def test_generation_from_and_to_s3_under_faults(
    s3: FaultyS3, recipe: RawRecipe, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.plan = seeded_faults(0, 0.12)
    remote = {**recipe, "source": {"path": PHOTOS}}
    run = ended(*generating(remote, tmp_path))
    assert run.returncode == 0, run.stderr + run.stdout
    assert sum(s3.faults.values()) > 10
    assert len(s3.faults) >= 4
    assert made_of_records(stored(OUT)) == made_of_records(dataset_bytes(undisturbed))
    assert LEASE not in stored(OUT)
    assert run_recipe(remote, OUT)[0]
    assert made_of_records(stored(OUT)) == made_of_records(dataset_bytes(undisturbed))
    s3.behave()
    verify(OUT, replay=2, seed=0)
    seen = " ".join(capsys.readouterr().out.split())
    assert "3 shards read, dataset finished: 0 problems" in seen
    assert seen.count(": identical") == 2
    inspect(OUT, pictures=3, grid=tmp_path / "grid.png")
    assert "adversarial views" in capsys.readouterr().out
    assert (tmp_path / "grid.png").exists()


def test_killed_while_sending_then_resumed(s3: FaultyS3, recipe: RawRecipe, undisturbed: Path, tmp_path: Path) -> None:
    s3.stalled = re.compile("PUT /bucket/out/shards/tiny-00001.tar")
    environment = {**os.environ, **ENVIRONMENT}
    command = generating(recipe, tmp_path)
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as run:
        assert s3.stalling.wait(120)
        os.killpg(run.pid, signal.SIGKILL)  # the worker too, which would send its unit to the end
    s3.behave()
    local = dataset_bytes(undisturbed)
    there = stored(OUT)
    assert LEASE in there
    assert "shards/tiny-00001.tar" not in there
    assert "index/tiny-00001.parquet" not in there
    for name in there.keys() - {LEASE, "manifest.json"}:
        assert there[name] == local[name]
    with pytest.raises(UserError, match=rf"{OUT} is being written by another run \(process {run.pid} on"):
        run_recipe(recipe, OUT)
    s3.clock_ahead_s = EXPIRY_S + 1
    s3.plan = seeded_faults(1, 0.2)
    complete, screen = run_recipe(recipe, OUT)
    assert complete
    assert s3.faults
    assert ("units are finished already" in screen) == any(name.startswith("index/") for name in there)
    assert stored(OUT) == local
    assert uploads_left() == 0


def test_a_run_that_lost_its_lease_stops_before_it_publishes_more(
    s3: FaultyS3, recipe: RawRecipe, tmp_path: Path
) -> None:
    def plan(request: Request) -> Fault | None:
        if request.method == "PUT" and request.target.endswith(".parquet"):
            lease = '{"token": "another", "host": "elsewhere", "pid": 7}'
            S3FileSystem().pipe_file(f"bucket/out/{LEASE}", lease.encode())
        return None

    s3.plan = plan
    with pytest.raises(UserError, match=r"has gone to another run \(process 7 on elsewhere\): it writes no more"):
        run_recipe(recipe, OUT)
    there = stored(OUT)
    # The one that was being sent, and perhaps the other in hand; never the third.
    assert 1 <= sum(name.startswith("index/") for name in there) <= 2
    assert b"elsewhere" in there[LEASE]


def test_preparing_from_and_to_s3_under_faults(s3: FaultyS3, images: Path, tmp_path: Path) -> None:
    prepare_shards(SourceSettings(path=str(images)), open_folder(tmp_path / "local"), samples_per_shard=10)
    s3.plan = seeded_faults(2, 0.3)
    prepare_shards(SourceSettings(path=PHOTOS), open_folder("s3://bucket/clean"), samples_per_shard=10)
    assert s3.faults
    local, there = dataset_bytes(tmp_path / "local"), stored("s3://bucket/clean")
    assert made_of_records(there) == made_of_records(local)


def test_training_from_s3_under_faults(s3: FaultyS3, images: Path, undisturbed: Path, tmp_path: Path) -> None:
    S3FileSystem().put(str(undisturbed), "bucket/set", recursive=True)
    local = training_recipe(undisturbed)
    local["compute"]["block_shards"] = 2  # remote sets are shuffled some shards at a time unless told otherwise
    finished, _ = train(local, tmp_path / "local")
    assert finished
    remote = {
        **local,
        "shards": [{"path": "s3://bucket/set", "clean": {"path": PHOTOS}}],
        "compute": {**local["compute"], "cache": str(tmp_path / "cache"), "workers": 2},
    }
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(remote))
    s3.plan = seeded_faults(3, 0.12)
    run = ended(DAD, "train", str(path), "--out", str(tmp_path / "remote"))
    assert run.returncode == 0, run.stderr
    assert s3.faults
    ours, theirs = (flat_tensors(checkpoint(tmp_path / name)) for name in ("local", "remote"))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert (tmp_path / "local/summary.csv").read_bytes() == (tmp_path / "remote/summary.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
def test_killed_again_and_again_under_faults(
    s3: FaultyS3, recipe: RawRecipe, undisturbed: Path, tmp_path: Path, seed: int
) -> None:
    """Two worker processes; driver and workers are killed at the n-th write of each attempt, n = 4, 8, 12, ..."""
    faults, environment = seeded_faults(seed, 0.15), {**os.environ, **ENVIRONMENT}
    for last_write in range(4 + seed, 200, 4):
        writes = 0
        run: list[subprocess.Popen[bytes]] = []

        def plan(
            request: Request,
            run: list[subprocess.Popen[bytes]] = run,
            last_write: int = last_write,
        ) -> Fault | None:
            nonlocal writes
            writes += request.writes and LEASE not in request.target
            if writes >= last_write:
                os.killpg(run[0].pid, signal.SIGKILL)
                return "refused"
            return faults(request)

        s3.plan = plan
        command = generating(recipe, tmp_path, "--workers", "2")
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            run.append(process)
        s3.plan = faults
        s3.clock_ahead_s += 2 * EXPIRY_S
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert stored(OUT) == dataset_bytes(undisturbed)
    assert uploads_left() == 0
