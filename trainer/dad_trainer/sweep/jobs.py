"""Trainings side by side: a process and a log file each."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from rich.console import Console

from dad_datasets.errors import UserError
from dad_datasets.stop_request import StopRequest
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.run import train_student
from dad_trainer.training.screen import say

LOG = "train.log"
POLL_S = 0.5
INTERRUPTED = 130
"""Exit status of a training that was told to stop, as of a shell's command."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    process: SpawnProcess
    mistake: Connection


def train_side_by_side(
    recipes: Mapping[Path, TrainingRecipe], *, jobs: int, console: Console
) -> dict[Path, str] | None:
    """Train each recipe into its folder, `jobs` at a time; the folders that failed, with their reasons.

    None where the trainings were told to stop (SIGINT or SIGTERM): each has kept a checkpoint. KeyboardInterrupt where
    they were told twice. A training whose process dies has failed, and the others go on.
    """
    running = dict[Path, _Job]()
    try:
        with StopRequest() as stop:
            return _train_all(recipes, running, jobs=jobs, stop=stop, console=console)
    except KeyboardInterrupt:
        for job in running.values():
            job.process.kill()
        raise


def _train_all(
    recipes: Mapping[Path, TrainingRecipe], running: dict[Path, _Job], *, jobs: int, stop: StopRequest, console: Console
) -> dict[Path, str] | None:
    context = multiprocessing.get_context("spawn")
    waiting, failures = list(recipes), dict[Path, str]()
    stopped = False
    while running or (waiting and not stopped):
        while waiting and not stopped and len(running) < jobs:
            folder = waiting.pop(0)
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_train, args=(recipes[folder], folder, sender), name=folder.name)
            process.start()
            sender.close()
            running[folder] = _Job(process=process, mistake=receiver)
            done = len(recipes) - len(waiting) - len(running)
            say(console, f"{folder.name} started, {done} of {len(recipes)} done; see {folder / LOG}")
        wait([job.process.sentinel for job in running.values()], timeout=POLL_S)
        if stop.made and not stopped:
            stopped = True
            for job in running.values():
                job.process.terminate()  # SIGTERM: ends after its step, with a checkpoint
        for folder in [folder for folder, job in running.items() if not job.process.is_alive()]:
            job = running.pop(folder)
            reason = _reason(job)
            stopped = stopped or job.process.exitcode == INTERRUPTED
            if reason is not None and not stop.made:  # one that was still beginning has not failed
                failures[folder] = reason
                say(console, f"{folder.name} failed: {reason}")
    return None if stopped else failures


def _reason(job: _Job) -> str | None:
    """Why it failed; None where it finished, or stopped because it was told to."""
    with job.mistake as pipe:
        try:
            return str(pipe.recv()) if pipe.poll() else _died(job.process)
        except EOFError:
            return _died(job.process)


def _died(process: SpawnProcess) -> str | None:
    if process.exitcode in (0, INTERRUPTED):
        return None
    return f"its process ended with status {process.exitcode}; see its {LOG}"


def _train(recipe: TrainingRecipe, folder: Path, mistake: Connection) -> None:
    """What the process does. A signal that comes before it listens ends it too: it has nothing to lose."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("a", buffering=1) as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
        try:
            # A signal to the process group reaches it from there and from the sweep: that is one request.
            with StopRequest(patient=True) as stop:
                finished = train_student(recipe, folder, console=Console(file=log, width=160), stop=stop)
        except UserError as error:
            mistake.send(str(error))
            sys.exit(2)
    sys.exit(0 if finished else INTERRUPTED)
