"""A few kills of benchmarks/kill_campaign.py, whose result file holds a hundred: Ray, real images, random moments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kill_campaign import Campaign, LocalCluster, Victim, hashes


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    local = LocalCluster()
    yield local
    local.close()


def require_equal(campaign: Campaign, folder: Path, *, kills: int) -> None:
    while len(campaign.kills) < kills:
        this = campaign.run_round(kills - len(campaign.kills))
        assert this.verdict == "equal"
        assert hashes(folder / "killed") == campaign.undisturbed
    campaign.write()
    result = json.loads((folder / "result.json").read_text())
    assert result["kills"] == kills
    assert {kill["verdict"] for kill in result["each_kill"]} == {"equal"}


@pytest.mark.timeout(900)
def test_a_dataset_under_kills_is_that_of_an_undisturbed_run(cluster: LocalCluster, tmp_path: Path) -> None:
    # The driver's death has tests of its own; each costs the start of three processes here.
    victims: tuple[Victim, ...] = ("worker", "raylet")
    require_equal(Campaign(tmp_path, seed=1, cluster=cluster, victims=victims), tmp_path, kills=3)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [2, 3])
def test_under_many_kills(cluster: LocalCluster, tmp_path: Path, seed: int) -> None:
    require_equal(Campaign(tmp_path, seed=seed, cluster=cluster), tmp_path, kills=15)


def test_a_difference_is_seen(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "shards/a.tar").write_bytes(b"1")
    (tmp_path / "runs/log").write_bytes(b"at noon")
    before = hashes(tmp_path)
    (tmp_path / "runs/log").write_bytes(b"at one")
    assert hashes(tmp_path) == before
    (tmp_path / "shards/a.tar").write_bytes(b"2")
    assert hashes(tmp_path).keys() == before.keys()
    assert hashes(tmp_path) != before
