"""Memory of driver and worker over a run of thousands of units.

    python benchmarks/long_run.py --units 4000 --work runs/long_run --out benchmarks/results/long_run

One photograph a unit, networks of random weights, one worker, a process of the driver or (`--runner ray`) an actor: a
unit takes milliseconds, so that what each leaves behind adds up. The resident memory of both processes is read at
every fiftieth unit; its slope over the last three quarters of the run is given in bytes a unit, with a 95 % interval
from a moving-block bootstrap (samples that follow each other are not independent). Writes OUT/<runner>_cpu.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from machine import hardware, versions
from tiny_generation import tiny_recipe, write_photographs, write_quantizer

from dad_datasets.seeding import generator_for

EVERY_UNITS = 50
BLOCK, RESAMPLES = 6, 2000
DAD = str(Path(sys.executable).with_name("dad"))


def resident_bytes(pid: int) -> int:
    """Of a process, without what it shares with its files; 0 where it has ended."""
    try:
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def worker_of(driver: int) -> int | None:
    """The driver's child that makes the units; the others are helpers of multiprocessing."""
    try:
        children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
    except OSError:
        return None
    return max((int(child) for child in children), key=resident_bytes, default=None)


def actor() -> int | None:
    """The process of this machine that Ray named after the pipeline's actor."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if command.startswith(b"ray::_WorkerActor"):
            return int(path.parent.name)
    return None


def slope(units: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Least squares, in `values` a unit, and its 95 % interval."""
    rng = generator_for("long run")
    fit = np.polyfit(units, values, 1)
    rest = values - np.polyval(fit, units)
    blocks = -(-len(units) // BLOCK)
    slopes = []
    for _ in range(RESAMPLES):
        starts = rng.integers(0, len(units) - BLOCK + 1, blocks)
        noise = np.concatenate([rest[start : start + BLOCK] for start in starts])[: len(units)]
        slopes.append(np.polyfit(units, np.polyval(fit, units) + noise, 1)[0])
    low, high = np.quantile(slopes, (0.025, 0.975))
    return float(fit[0]), float(low), float(high)


def sample_run(command: list[str], folder: Path, runner: str) -> list[dict[str, int]]:
    """Memory at every EVERY_UNITS units while `command` writes to `folder`."""
    samples: list[dict[str, int]] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as driver:
        while driver.poll() is None:
            done = sum(1 for _ in os.scandir(folder / "index")) if (folder / "index").exists() else 0
            due = done >= (len(samples) + 1) * EVERY_UNITS
            worker = (actor() if runner == "ray" else worker_of(driver.pid)) if due else None
            if worker is not None:
                both = {"driver_bytes": resident_bytes(driver.pid), "worker_bytes": resident_bytes(worker)}
                samples.append({"units": done, **both})
            time.sleep(0.05)
    assert driver.returncode == 0, f"dad generate ended with {driver.returncode}"
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=4000)
    parser.add_argument("--runner", choices=("local", "ray"), default="local")
    parser.add_argument("--work", type=Path, required=True, help="where photographs and dataset are made; must be new")
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    args = parser.parse_args()
    write_photographs(args.work / "photographs", args.units)
    write_quantizer(args.work / "quantizer")
    recipe = args.work / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump(tiny_recipe(args.work / "photographs", args.work / "quantizer", samples_per_shard=1))
    )
    dataset = args.work / "dad"
    command = [DAD, "generate", str(recipe), "--out", str(dataset), "--runner", args.runner, "--workers", "1"]
    started = time.monotonic()
    samples = sample_run(command, dataset, args.runner)
    wall_s = time.monotonic() - started
    # The worker has ended when the driver writes the report: its last reading is none.
    late = [sample for sample in samples[len(samples) // 4 :] if sample["worker_bytes"] and sample["driver_bytes"]]
    units = np.array([sample["units"] for sample in late], np.float64)
    result: dict[str, object] = {
        "what": f"{args.units} units of one photograph, networks of random weights, one worker, runner {args.runner}",
        "wall_s": round(wall_s, 1),
        "log_bytes_per_unit": round(sum(p.stat().st_size for p in dataset.glob("runs/*/*")) / args.units),
        "dataset_bytes_per_unit": round(sum(p.stat().st_size for p in dataset.rglob("*") if p.is_file()) / args.units),
        "hardware": hardware(),
        "versions": versions("torch", "ray", "pyarrow", "numpy"),
    }
    for who in ("driver", "worker"):
        values = np.array([sample[f"{who}_bytes"] for sample in late], np.float64)
        per_unit, low, high = slope(units, values)
        result[who] = {
            "bytes_per_unit": round(per_unit),
            "interval_95": [round(low), round(high)],
            "mean_mib": round(float(values.mean()) / 2**20, 1),
            "from_first_to_last_mib": round(float(values[-1] - values[0]) / 2**20, 1),
        }
    result["samples"] = samples
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{args.runner}_cpu.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: value for name, value in result.items() if name != "samples"}, indent=1))


if __name__ == "__main__":
    main()
