"""Ray clusters of several nodes: nodes that join, leave, and lack what a worker needs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_machine import FAULTY_PYTHON, faulty_environment
from ray.cluster_utils import Cluster
from tiny_run import RawRecipe, dataset_bytes, run_recipe, tiny_recipe, write_images, write_quantizer

from dad_datasets.errors import UserError
from dad_datasets.sources import WorkUnit
from dad_pipeline.runners import ray_runner
from dad_pipeline.runners.ray_runner import RayRunner
from dad_pipeline.runners.runner import Event
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.worker import WorkerSettings


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "tiny")


@pytest.fixture
def recipe(images: Path, tmp_path: Path) -> RawRecipe:
    return tiny_recipe(images, write_quantizer(tmp_path / "quantizer")) | {"samples_per_shard": 2}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without cores: every worker is on a node that a test adds."""
    local = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield local
    local.shutdown()


class NodesComeAndGo(RayRunner):
    """After the first unit a second node joins; once it works, the first is killed."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(workers=None, address=str(cluster.address))
        self._cluster = cluster
        self._nodes: list[Any] = [cluster.add_node(num_cpus=1)]
        self.most_workers = 0

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        for event in super().run(units, settings):
            yield event
            if isinstance(event, UnitReport) and len(self._nodes) == 1:
                self._nodes.append(self._cluster.add_node(num_cpus=1))
            if self.most_workers < 2:
                self.most_workers = max(self.most_workers, self._workers_now())
            elif self._nodes[0] is not None:
                self._cluster.remove_node(self._nodes[0], allow_graceful=False)
                self._nodes[0] = None

    def _workers_now(self) -> int:
        raylets = [node.all_processes["raylet"][0].process.pid for node in self._nodes]
        return sum(bool(_actors(pid)) for pid in raylets)

    def leave(self) -> None:
        for node in filter(None, self._nodes):
            self._cluster.remove_node(node)


def _actors(raylet: int) -> list[str]:
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    return [pid for pid in children if b"WorkerActor" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nodes_may_join_and_leave_in_mid_run(
    cluster: Cluster, recipe: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_runner, "RECOUNT_S", 0.5)
    recipe |= {"samples_per_shard": 1, "attack": {"steps": 100}}  # work for longer than a worker takes to come
    assert run_recipe(recipe, tmp_path / "undisturbed")[0]
    runner = NodesComeAndGo(cluster)
    try:
        complete, _ = run_recipe(recipe, tmp_path / "out", lambda _: runner)
        assert complete
        assert runner.most_workers == 2
        assert runner._nodes[0] is None
    finally:
        runner.leave()
    assert dataset_bytes(tmp_path / "out") == dataset_bytes(tmp_path / "undisturbed")


def mounts_work() -> bool:
    """Whether a process may see another folder than its parent in one place."""
    environment = faulty_environment(FAULTY_MOUNT=f"tmpfs:{FAULTY_PYTHON}")
    command = [sys.executable, "-c", f"import os; assert not os.listdir('{FAULTY_PYTHON}')"]
    return subprocess.run(command, env=environment, check=False, capture_output=True).returncode == 0


LACKS = {
    "the source": ("tmpfs:{tmp}/tiny", r"source .*/tiny: "),
    "other images": ("{tmp}/fewer:{tmp}/tiny", r"the source .*/tiny has changed since the run was planned"),
    "the weights": ("tmpfs:{tmp}/quantizer", r"quantizer"),
    "other weights": ("{tmp}/other:{tmp}/quantizer", r"the quantizer's checkpoint is not the one"),
    "the output directory": ("tmpfs:{tmp}/out", r"/out is not the output directory of the run, which has to be shared"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "lack", [pytest.param(lack, marks=() if lack == "other weights" else pytest.mark.slow) for lack in LACKS]
)
def test_a_node_that_lacks_something_is_told_by_name(
    cluster: Cluster, recipe: RawRecipe, images: Path, tmp_path: Path, lack: str
) -> None:
    if not mounts_work():
        pytest.skip("a node with another disk needs root")
    _other_weights(tmp_path)
    shutil.copytree(images, tmp_path / "fewer")
    (tmp_path / "fewer/class0/0.png").unlink()
    (tmp_path / "out").mkdir()
    mount, message = LACKS[lack]
    environment = {"PYTHONPATH": str(FAULTY_PYTHON), "FAULTY_MOUNT": mount.format(tmp=tmp_path)}
    node = cluster.add_node(num_cpus=1, env_vars=environment)
    try:
        with pytest.raises(UserError, match=rf"^on the node {socket.gethostname()}: .*{message}"):
            run_recipe(recipe, tmp_path / "out", lambda _: RayRunner(workers=1, address=str(cluster.address)))
    finally:
        cluster.remove_node(node)
    assert not list((tmp_path / "out").glob("index/*"))


def _other_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder / "quantizer", folder / "other")
    weights = load_file(folder / "quantizer/quantizer.safetensors")
    save_file({name: value + 1e-3 for name, value in weights.items()}, folder / "other/quantizer.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_run_the_drivers_code_in_the_drivers_directory(
    cluster: Cluster, recipe: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node on which another package of this name is installed, with recipes that hold relative paths."""
    decoy = tmp_path / "decoy/dad_pipeline"
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text("raise ImportError('an old version')")
    assert run_recipe(recipe, tmp_path / "undisturbed")[0]
    monkeypatch.chdir(tmp_path)
    recipe |= {"source": {"path": "tiny"}, "quantizer": {"checkpoint": "quantizer"}}
    node = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(decoy.parent)})
    try:
        complete, _ = run_recipe(recipe, "out", lambda _: RayRunner(workers=1, address=str(cluster.address)))
    finally:
        cluster.remove_node(node)
    assert complete
    made, undisturbed = dataset_bytes(tmp_path / "out"), dataset_bytes(tmp_path / "undisturbed")
    shards = [name for name in undisturbed if name.startswith(("shards/", "index/"))]
    assert {name: made[name] for name in shards} == {name: undisturbed[name] for name in shards}
    assert os.getcwd() == str(tmp_path)
