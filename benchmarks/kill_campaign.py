"""Generation under Ray whose processes are killed at random moments, again and again; then the bytes are compared.

    python benchmarks/kill_campaign.py --kills 100 --seed 0 --out runs/kills

A local cluster of a head and two nodes runs `dad generate --runner ray` on small photographs. A worker, the driver or
a node's raylet gets SIGKILL; a killed driver is started again by the same command, a killed node is replaced. When a
run has ended well its folder is compared with that of an undisturbed run, and a new one begins. Writes OUT/result.json
after every round, and goes on from it when it is started again; victims and moments follow from the seed and the
number of the kill.
Exit status 1 where a comparison fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from machine import hardware, versions
from tiny_generation import tiny_recipe, write_photographs, write_quantizer

from dad_datasets.folder import TEMPORARY_PREFIX, open_folder
from dad_datasets.index import read_index
from dad_datasets.layout import LEASE, RUNS
from dad_datasets.manifest import read_manifest
from dad_datasets.seeding import generator_for
from dad_datasets.summary import finished_units
from dad_datasets.verification import problems

Victim = Literal["worker", "driver", "raylet"]
VICTIMS: tuple[Victim, ...] = ("worker", "driver", "raylet")

NUM_IMAGES, SAMPLES_PER_SHARD = 120, 4
NUM_UNITS = NUM_IMAGES // SAMPLES_PER_SHARD
KILLS_OF_A_ROUND = 10
UNITS_BETWEEN_KILLS = 4
DURING_START_UP = 0.25
"""Share of the kills that come before the run (or its next attempt) has made a unit."""

POLL_S = 0.005
PATIENCE_S = 1800.0
DAD = str(Path(sys.executable).with_name("dad"))


@dataclass(kw_only=True)
class Kill:
    """One SIGKILL: whom, when, and what the run had done."""

    number: int
    seed: int
    round: int
    victim: Victim
    planned: str
    after_s: float
    """Since the driver was started."""
    units_finished: int
    temporary_files: int
    """In the folder at that moment: a unit was being written."""


@dataclass(kw_only=True)
class Round:
    """One dataset, from its first command to the last; what is empty is as it should be."""

    number: int
    commands: int = 0
    exit_codes: list[int] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    counted_twice: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """The word `equal`, or what is wrong."""
        wrong = {
            "exit status": [code for code in self.exit_codes if code not in (0, -signal.SIGKILL)],
            "different": self.different,
            "left over": self.left_over,
            "counted twice": self.counted_twice,
            "problems": self.problems,
        }
        return "; ".join(f"{what}: {found}" for what, found in wrong.items() if found) or "equal"


class LocalCluster:
    """A head without cores and two nodes of one core each, on this machine, under this process."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._nodes = [self._cluster.add_node(num_cpus=1) for _ in range(2)]

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def workers(self) -> list[int]:
        """Process ids of the actors."""
        return [pid for raylet in self.raylets() for pid in _children(raylet) if b"WorkerActor" in _command_line(pid)]

    def raylets(self) -> list[int]:
        """Of the two nodes, not of the head."""
        return [node.all_processes["raylet"][0].process.pid for node in self._nodes]

    def replace(self, raylet: int) -> None:
        """Clear away the node whose raylet was killed, and let another join."""
        at = self.raylets().index(raylet)
        self._cluster.remove_node(self._nodes[at], allow_graceful=False)
        self._nodes[at] = self._cluster.add_node(num_cpus=1)

    def close(self) -> None:
        self._cluster.shutdown()


class Campaign:
    """The datasets, their command and what was counted."""

    def __init__(self, out: Path, *, seed: int, cluster: LocalCluster, victims: tuple[Victim, ...] = VICTIMS) -> None:
        self.kills: list[Kill] = []
        self.rounds: list[Round] = []
        self._out, self._seed, self._cluster, self._victims = out, seed, cluster, victims
        self._recipe = out / "recipe.yaml"
        self._start_up_s = 0.0
        self.undisturbed = self._undisturbed()

    def _command(self, folder: Path, *arguments: str) -> list[str]:
        return [DAD, "generate", str(self._recipe), "--out", str(folder), *arguments]

    def _undisturbed(self) -> dict[str, str]:
        """The hashes of a run that nobody disturbs, in one process and without Ray."""
        if not (self._out / "quantizer").exists():
            write_photographs(self._out / "photographs", NUM_IMAGES)
            write_quantizer(self._out / "quantizer")
        recipe = tiny_recipe(self._out / "photographs", self._out / "quantizer", samples_per_shard=SAMPLES_PER_SHARD)
        self._recipe.write_text(yaml.safe_dump(recipe))
        folder = self._out / "undisturbed"
        subprocess.run(self._command(folder, "--runner", "inline"), check=True, stdout=subprocess.DEVNULL)
        return hashes(folder)

    def run_round(self, num_kills: int) -> Round:
        """One dataset under `num_kills` kills (fewer where it is finished before)."""
        this = Round(number=len(self.rounds))
        folder = self._out / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        began = time.monotonic()
        last = len(self.kills) + num_kills
        driver: subprocess.Popen[bytes] | None = None
        try:
            while driver is None or driver.returncode != 0:
                if driver is None or driver.poll() is not None:
                    driver = self._start(folder)
                    this.commands, started = this.commands + 1, time.monotonic()
                if len(self.kills) >= last:
                    driver.wait(PATIENCE_S)
                else:
                    kill = self._kill(driver, folder, started, this.number)
                    self.kills += [kill] if kill else []
                if driver.poll() is not None:
                    this.exit_codes.append(driver.returncode)
                    if driver.returncode not in (0, -signal.SIGKILL):
                        break
        finally:
            if driver is not None:
                driver.kill()
        this.seconds = round(time.monotonic() - began, 1)
        self._judge(this, folder)
        self.rounds.append(this)
        return this

    def _start(self, folder: Path) -> subprocess.Popen[bytes]:
        log = (self._out / "driver.log").open("ab")
        with log:
            return subprocess.Popen(
                self._command(folder, "--runner", "ray", "--ray-address", self._cluster.address),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _kill(self, driver: subprocess.Popen[bytes], folder: Path, started: float, number: int) -> Kill | None:
        """Kill somebody at the moment that the kill's number says; None where the run was over before."""
        rng = generator_for("kill campaign", self._seed, len(self.kills))
        victim = self._victims[int(rng.integers(len(self._victims)))]
        before = _finished(folder)
        early, share, later = rng.random() < DURING_START_UP, rng.random(), rng.random()
        target = before if early else min(NUM_UNITS, before + 1 + int(share * UNITS_BETWEEN_KILLS))
        while not early and _finished(folder) < target and driver.poll() is None:
            time.sleep(POLL_S)
        if early:
            planned, delay_s = f"start-up, {later:.3f} of it", later * (self._start_up_s or 10.0)
        else:
            planned, delay_s = f"after unit {target}, {later * 0.3:.3f} s on", later * 0.3
            self._start_up_s = self._start_up_s or time.monotonic() - started
        deadline = time.monotonic() + delay_s
        while time.monotonic() < deadline and driver.poll() is None:
            time.sleep(POLL_S)
        choice = rng.random()
        while True:
            pids = {"driver": [driver.pid], "worker": self._cluster.workers(), "raylet": self._cluster.raylets()}[
                victim
            ]
            if driver.poll() is not None:
                self._start_up_s /= 2  # the machine is faster than it was: the next attempt of this kill comes earlier
                return None
            if pids:
                break
            time.sleep(POLL_S)
        pid = pids[int(choice * len(pids))]
        kill = Kill(
            number=len(self.kills),
            seed=self._seed,
            round=number,
            victim=victim,
            planned=planned,
            after_s=round(time.monotonic() - started, 2),
            units_finished=_finished(folder),
            temporary_files=len(_temporary(folder)),
        )
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None  # it had just ended
        if victim == "raylet":
            self._cluster.replace(pid)
        if victim == "driver":
            driver.wait()
        return kill

    def _judge(self, this: Round, folder: Path) -> None:
        made = hashes(folder)
        names = made.keys() | self.undisturbed.keys()
        this.different = sorted(name for name in names if made.get(name) != self.undisturbed.get(name))
        this.left_over = _temporary(folder) + [LEASE] * (folder / LEASE).exists()
        if this.different:
            return
        dataset = open_folder(folder)
        keys = Counter(key for unit in finished_units(dataset) for key in read_index(dataset, unit)["key"].to_pylist())
        this.counted_twice = [key for key, count in keys.items() if count > 1]
        manifest = read_manifest(dataset)
        if (manifest.shards, manifest.samples, len(keys)) != (NUM_UNITS, NUM_IMAGES, NUM_IMAGES):
            this.counted_twice.append(f"{manifest.shards} shards, {manifest.samples} samples, {len(keys)} keys")
        this.problems = list(problems(dataset, manifest))

    def write(self) -> None:
        """OUT/result.json."""
        result = {
            "what": f"{NUM_IMAGES} photographs in {NUM_UNITS} units, Ray cluster of two nodes on one machine, SIGKILL",
            "seed": self._seed,
            "kills": len(self.kills),
            "by_victim": dict(Counter(kill.victim for kill in self.kills)),
            "kills_while_writing": sum(kill.temporary_files > 0 for kill in self.kills),
            "rounds": len(self.rounds),
            "rounds_equal": sum(this.verdict == "equal" for this in self.rounds),
            "files_compared": len(self.undisturbed),
            "outside_the_comparison": [f"{RUNS}/"],
            "hardware": hardware(),
            "versions": versions("ray", "torch", "pyarrow", "pillow"),
            "each_round": [{"verdict": this.verdict, **asdict(this)} for this in self.rounds],
            "each_kill": [{**asdict(kill), "verdict": self.rounds[kill.round].verdict} for kill in self.kills],
        }
        (self._out / "result.json").write_text(json.dumps(result, indent=1) + "\n")

    def go_on(self) -> None:
        """Take up what an earlier start of the same campaign counted."""
        path = self._out / "result.json"
        if not path.exists():
            return
        before: dict[str, Any] = json.loads(path.read_text())
        assert before["seed"] == self._seed, f"{path} is of seed {before['seed']}"
        self.rounds = [Round(**{k: v for k, v in raw.items() if k != "verdict"}) for raw in before["each_round"]]
        self.kills = [Kill(**{k: v for k, v in raw.items() if k != "verdict"}) for raw in before["each_kill"]]


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file but those in runs/, which hold times."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != RUNS
    }


def _finished(folder: Path) -> int:
    return sum(1 for path in folder.glob("index/*.parquet"))


def _temporary(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(f"{TEMPORARY_PREFIX}*"))


def _children(parent: int) -> list[int]:
    try:
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(pid) for pid in text.split()]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    cluster = LocalCluster()
    try:
        campaign = Campaign(args.out, seed=args.seed, cluster=cluster)
        campaign.go_on()
        while len(campaign.kills) < args.kills:
            this = campaign.run_round(min(KILLS_OF_A_ROUND, args.kills - len(campaign.kills)))
            campaign.write()
            kills = len(campaign.kills)
            print(f"round {this.number}: {kills} kills in all, {this.seconds:.0f} s, {this.verdict}", flush=True)
    finally:
        cluster.close()
    return 0 if all(this.verdict == "equal" for this in campaign.rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
