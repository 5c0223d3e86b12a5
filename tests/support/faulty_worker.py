"""A worker process in which something happens to one unit: the target that a test gives to ProcessRunner."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from dad_datasets.sources import WorkUnit
from dad_pipeline import worker
from dad_pipeline.runners import process_runner
from dad_pipeline.shard_generation import GenerationContext, UnitReport, generate_unit
from dad_pipeline.worker import WorkerSettings

FAULT = "FAULTY_WORKER"
"""In the environment: the fault, the unit, and where to note that it came, so that it comes once; or an empty word."""

work_well = process_runner._work


def plan(fault: str, unit: str, *, once: Path | None = None) -> dict[str, str]:
    """The environment for a fault at `unit`."""
    return {FAULT: "|".join([fault, unit, str(once or "")])}


def work(connection: Connection, index: int, settings: WorkerSettings) -> None:
    """As the real target, but for the fault."""
    worker.generate_unit = _generate  # type: ignore[attr-defined]  # what the worker calls, put out of its way
    work_well(connection, index, settings)


def _generate(unit: WorkUnit, context: GenerationContext) -> UnitReport:
    fault, where, once = os.environ[FAULT].split("|")
    if unit.name == where and not (once and Path(once).exists()):
        if once:
            Path(once).touch()
        _happen(fault)
    return generate_unit(unit, context)


def _happen(fault: str) -> None:
    match fault:
        case "device error":
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nFor debugging ...")
        case "old device error":
            raise RuntimeError("CUDA error: device-side assert triggered\nFor debugging ...")
        case _:
            raise AssertionError(fault)
