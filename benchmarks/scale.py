"""What grows with the number of shards and of workers: planning, going on on an object store, two workers for one.

    python benchmarks/scale.py --out benchmarks/results/speed

Planning: the table of a prepared source of a million shards becomes work units, of which half are finished. Going on:
the listings of a million finished units and the checks behind them, against an S3 server on loopback (listed_store.py),
whose own time is in the seconds but whose distance is not. Both in processes of their own. Workers: `dad generate` with
one and with two on photographs of 32 px, models of random weights, one thread each, from the first finished unit to the
last: run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from listed_store import FINGERPRINT, URL, listed_store, unit_name
from measurement import Figure, SpeedResult, publish
from worker_scaling import worker_figure

from dad_datasets.folder import LocalFolder, open_folder
from dad_datasets.layout import SHARD_TABLE
from dad_datasets.lost_tars import units_without_tar
from dad_datasets.manifest import Manifest, write_manifest
from dad_datasets.sources import SourceSettings, WorkUnit, open_source
from dad_datasets.summary import finished_units
from dad_pipeline.resume_scan import MOST_OPENED, failed_views
from dad_pipeline.unit_table import UnitTable

MILLION, TOY_UNITS = 1_000_000, 2500
SAMPLES_PER_SHARD = 1000

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of what a process of its own did. `peak_bytes` is what its memory grew by at most."""

    seconds: float
    peak_bytes: int


def alone(function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
    """`function` run in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def planning_figures(num_units: int) -> list[Figure]:
    """Of a prepared source."""
    with tempfile.TemporaryDirectory() as temporary:
        write_prepared(Path(temporary), num_units)
        cost = alone(plan, temporary)
    return [
        Figure(name=f"planning {num_units:,} units: time", value=round(cost.seconds, 1), unit="s"),
        Figure(
            name=f"planning {num_units:,} units: memory of the driver",
            value=round(cost.peak_bytes / 2**20),
            unit="MiB",
            note=f"{cost.peak_bytes / num_units:,.0f} bytes a unit, at the peak",
        ),
    ]


def plan(source: str) -> Cost:
    """As a run does that finds half of its units finished."""
    before, started = _memory("VmRSS"), time.perf_counter()
    units = UnitTable.of(open_source(SourceSettings(path=source)).plan(SAMPLES_PER_SHARD))
    done = units.names[::2]
    assert not units.strangers(done)
    assert len(units.without(done)) == len(units) // 2
    return Cost(seconds=time.perf_counter() - started, peak_bytes=_memory("VmHWM") - before)


def write_prepared(path: Path, num_units: int) -> None:
    """What planning reads of a folder that `dad prepare` made: its manifest and its table of shards."""
    numbers = range(num_units)
    rows = {
        "unit": [f"{unit_name(number)}-00000" for number in numbers],
        "fingerprint": [FINGERPRINT] * num_units,
        "tar_sha256": [f"{number:064x}" for number in numbers],
        **{name: [SAMPLES_PER_SHARD] * num_units for name in ("tar_bytes", "rows", "ok")},
        **{name: [0] * num_units for name in ("clean_only", "failed")},
    }
    pq.write_table(pa.table(rows), path / SHARD_TABLE, compression="zstd")
    manifest = Manifest(
        kind="clean",
        state="finished",
        fingerprint=FINGERPRINT,
        fingerprinted={},
        recipe={},
        class_names=None,
        num_classes=1000,
        shards=num_units,
        samples=num_units * SAMPLES_PER_SHARD,
        clean_sha256="0" * 64,
    )
    write_manifest(LocalFolder(path), manifest)


def resume_figures(num_units: int, most_opened: int = MOST_OPENED) -> list[Figure]:
    """Of a run whose units are finished on an object store."""
    with listed_store(num_units) as store:
        cost = alone(scan, store.endpoint, num_units, most_opened)
        requests = store.requests()
    name = f"going on after {num_units:,} finished units on S3"
    return [
        Figure(
            name=f"{name}: requests",
            value=sum(requests.values()),
            unit="requests",
            note=f"{requests['list']:,} to list, {requests['HEAD'] + requests['GET']:,} to look into "
            f"{min(num_units, most_opened):,} indexes",
        ),
        Figure(name=f"{name}: time", value=round(cost.seconds, 1), unit="s", note="the store on the same machine"),
        Figure(
            name=f"{name}: memory of the driver",
            value=round(cost.peak_bytes / 2**20),
            unit="MiB",
            note=f"{cost.peak_bytes / num_units:,.0f} bytes a unit, at the peak",
        ),
    ]


def scan(endpoint: str, num_units: int, most_opened: int) -> Cost:
    """List the finished units, see that they are of this run and have their tars, and what is left."""
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    numbers = range(num_units + 1)
    units = UnitTable.of(WorkUnit(name=unit_name(n), source_shard="train.tar", start=n, count=1) for n in numbers)
    before, started = _memory("VmRSS"), time.perf_counter()
    folder = open_folder(URL)
    done = finished_units(folder)
    assert failed_views(folder, done, units, FINGERPRINT, most_opened=most_opened) == 0
    assert not units_without_tar(folder, done)
    assert len(units.without(done)) == 1
    return Cost(seconds=time.perf_counter() - started, peak_bytes=_memory("VmHWM") - before)


def _memory(field: str) -> int:
    """Bytes: VmRSS is what this process has, VmHWM the most that it had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for scale.json")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it works")
    arguments = parser.parse_args()
    num_units = TOY_UNITS if arguments.small else MILLION
    figures = [
        *planning_figures(num_units),
        *resume_figures(num_units),
        worker_figure(small=arguments.small),
    ]
    libraries = ("numpy", "pyarrow", "s3fs", "torch")
    result = SpeedResult.here("scale", "Scale", figures, libraries=libraries, seeds=(0,), small=arguments.small)
    publish(arguments.out, result)


if __name__ == "__main__":
    main()
