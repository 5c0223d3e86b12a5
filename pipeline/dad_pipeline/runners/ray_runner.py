"""Workers as Ray actors, one a GPU or a share of the cores: the only file that imports ray."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

import dad_datasets
import dad_pipeline
from dad_datasets.errors import UserError
from dad_datasets.sources import WorkUnit
from dad_pipeline.interruption import interrupted_twice
from dad_pipeline.runners.holding import Holding
from dad_pipeline.runners.retry_queue import Assignment, RetryQueue
from dad_pipeline.runners.runner import Event, Note, ViewsDone
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.worker import UNITS_IN_FLIGHT, UnitFailure, Worker, WorkerLostError, WorkerSettings

POLL_S = 1.0
RECOUNT_S = 10.0
"""How often nodes that joined the cluster are looked for."""

PATIENCE_S = 30.0
"""After so long without any worker the user is told what the run waits for."""


class _WorkerActor:
    """The actor: a Worker, and a count of views that the driver asks for while units are running."""

    def __init__(self) -> None:
        # The worker is not built here: Ray would turn an error into a dead actor, and its text into a traceback; and
        # nobody could tell an actor that loads from one that waits for its place.
        self._views = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Answers once the actor has its place."""

    def load(self, settings: WorkerSettings, directory: str) -> None:
        """Build the worker. UserError, with the node's name, where something is wrong there."""
        try:
            _enter(directory)
            self._worker = Worker(settings, on_views=self._count)
        except UserError as mistake:
            raise UserError(f"on the node {socket.gethostname()}: {mistake}") from None

    def _count(self, views: int) -> None:
        with self._lock:
            self._views += views

    def generate(self, assignment: Assignment) -> UnitReport | UnitFailure:
        return self._worker.generate(assignment.unit, careful=assignment.careful)

    def take_views(self) -> int:
        with self._lock:
            views, self._views = self._views, 0
        return views


def _enter(directory: str) -> None:
    """Paths of the recipe start where the driver was started."""
    try:
        os.chdir(directory)
    except OSError as error:
        raise UserError(f"the directory {directory}, in which the run was started: {error.strerror}") from None


@dataclass
class _Member:
    """An actor, what it holds, and Ray's references to the answers that it owes."""

    handle: Any
    begun: Any
    loaded: Any
    holding: Holding = field(default_factory=Holding)
    running: dict[Any, WorkUnit] = field(default_factory=dict)
    count: Any = None


@dataclass(frozen=True)
class _Died:
    reason: str


class RayRunner:
    """Runs actors on a cluster: the one at `address`, or one started on this machine.

    Nodes may join and leave while it runs; without a fixed number of workers, those that join get some. A cluster that
    exists already is sent this package's code; every node needs the other libraries in the driver's versions, and must
    see the recipe's files and the output directory at the same paths. Each worker checks that. Ray sets
    OMP_NUM_THREADS in its workers; the recipe's thread count is set through torch and overrides it.
    """

    def __init__(self, *, workers: int | None, address: str | None) -> None:
        self._workers = workers
        self._address = address

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        """See `Runner`. An error of the user or of the device's memory is raised from here."""
        started = not ray.is_initialized()
        if started:
            _connect(self._address or os.environ.get("RAY_ADDRESS"))
        crew = _Crew(self._workers, settings)
        try:
            yield from crew.work(RetryQueue(units, settings.recipe.max_retries))
        finally:
            try:
                crew.end_units()
            finally:
                crew.dismiss()
                if started:
                    ray.shutdown()


def _connect(address: str | None) -> None:
    # Nodes of a cluster that was there before may have another version of this package, or none.
    code = {"runtime_env": {"py_modules": [dad_datasets, dad_pipeline]}} if address is not None else {}
    where = address or "local"  # not None: that joins whatever cluster this machine had last
    try:
        ray.init(address=where, include_dashboard=False, log_to_driver=False, logging_level="ERROR", **code)
    except Exception as error:  # noqa: BLE001  # a node that did not start in time is an Exception of no class of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if address is None:
            raise UserError(
                f"Ray could not be started on this machine: {reason.rstrip('.')}. "
                "Free the machine and give the same command again, or go without Ray: --runner local"
            ) from None
        raise UserError(f"--ray-address {address}: no Ray cluster could be reached: {reason}") from None


class _Crew:
    """The actors of a run."""

    def __init__(self, workers: int | None, settings: WorkerSettings) -> None:
        self._workers = workers
        self._settings = settings
        self._limit_s = settings.recipe.stall_timeout_s
        self._needs = self._needs_of_one()
        self._actor = ray.remote(_WorkerActor).options(max_concurrency=UNITS_IN_FLIGHT + 1, **self._needs)
        self._members: list[_Member] = []

    def work(self, todo: RetryQueue) -> Iterator[Event]:
        """Every unit of `todo`, on as many actors as there is room for."""
        recounted_s, waited_from_s = -RECOUNT_S, time.monotonic()
        while todo or any(member.running for member in self._members):
            if time.monotonic() - recounted_s > RECOUNT_S:
                self._members += [self._start() for _ in range(self._wanted() - len(self._members))]
                recounted_s = time.monotonic()
            owed = [(*member.running, member.begun, member.loaded) for member in self._members]
            ready, _ = ray.wait([reference for some in owed for reference in some if reference], timeout=POLL_S)
            for index, member in enumerate(self._members):
                yield from self._listen(index, member, set(ready), todo)
            for member in self._members:
                for assignment in member.holding.fill(todo):
                    member.running[member.handle.generate.remote(assignment)] = assignment.unit
            if any(member.holding.ready for member in self._members):
                waited_from_s = time.monotonic()
            elif time.monotonic() - waited_from_s > PATIENCE_S:
                yield Note(f"no worker is ready yet: each needs {self._room()}, and the cluster has {_resources()}")
                waited_from_s = float("inf")

    def end_units(self) -> None:
        """Wait for the units in hand, but for those of workers that hang; not where the user is tired of waiting."""
        while not interrupted_twice():
            running = [reference for member in self._living() for reference in member.running]
            if not running:
                break
            ready, _ = ray.wait(running, timeout=POLL_S)
            for member in self._members:
                for reference in member.running.keys() & set(ready):
                    member.holding.end(member.running.pop(reference).name)
                for _ in _progress(member):
                    pass

    def dismiss(self) -> None:
        """Kill every actor."""
        for member in self._members:
            ray.kill(member.handle)

    def _living(self) -> list[_Member]:
        return [member for member in self._members if not member.holding.hangs(self._limit_s)]

    def _start(self) -> _Member:
        handle = self._actor.remote()
        return _Member(handle, handle.begin.remote(), handle.load.remote(self._settings, os.getcwd()))

    def _listen(self, index: int, member: _Member, ready: set[Any], todo: RetryQueue) -> Iterator[Event]:
        """What came from one actor; where it died, another takes its place."""
        yield from _progress(member)
        died = _Died(f"no progress for {self._limit_s:g} s") if member.holding.hangs(self._limit_s) else None
        if member.begun in ready:
            begun, member.begun = member.begun, None
            died = died or _death(_answer(begun))
            member.holding.begun = died is None
            member.holding.heard()
        if member.loaded in ready:
            loaded, member.loaded = member.loaded, None
            died = died or _death(_answer(loaded))
            member.holding.ready = died is None
            member.holding.heard()
        for reference in member.running.keys() & ready:
            outcome = _answer(reference)
            if isinstance(outcome, _Died):
                died = outcome
                continue
            unit = member.running.pop(reference)
            member.holding.end(unit.name)
            if isinstance(outcome, str):
                outcome = UnitFailure(unit=unit.name, reason=outcome)
            yield from todo.settle(unit, outcome)
        if died is not None:
            ray.kill(member.handle)
            self._members[index] = self._start()
            reason = f"its worker died ({died.reason})"
            yield from todo.lose(member.running.values(), reason, workers=len(self._members))

    def _needs_of_one(self) -> dict[str, float]:
        """What each actor holds."""
        resources, compute = ray.cluster_resources(), self._settings.recipe.compute
        if compute.device == "cuda":
            gpus = int(resources.get("GPU", 0))
            if not gpus:
                raise UserError("compute.device = cuda: the Ray cluster has no GPU; allowed here: cpu, auto")
            return {"num_gpus": min(1.0, gpus / (self._workers or gpus))}
        assert compute.threads != "auto"
        cores = int(resources.get("CPU", 1))
        return {"num_cpus": min(float(compute.threads), cores / (self._workers or 1))}

    def _wanted(self) -> int:
        if self._workers is not None:
            return self._workers
        resource, amount = ("GPU", "num_gpus") if "num_gpus" in self._needs else ("CPU", "num_cpus")
        return max(1, int(ray.cluster_resources().get(resource, 0) / self._needs[amount]))

    def _room(self) -> str:
        return " and ".join(f"{amount:g} {name.removeprefix('num_')}" for name, amount in self._needs.items())


def _resources() -> str:
    resources = ray.cluster_resources()
    return f"{resources.get('CPU', 0):g} cpus and {resources.get('GPU', 0):g} gpus, in use or not"


def _answer(reference: Any) -> Any:
    """An actor's answer; _Died where there is none to come, a reason (str) where it failed at the unit alone."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        if isinstance(error.cause, WorkerLostError):
            return _Died(str(error.cause))
        return str(error.cause)
    except RayError as error:
        return _Died((str(error).splitlines() or [type(error).__name__])[0])


def _death(answer: Any) -> _Died | None:
    """Of an actor that should have said nothing."""
    return _Died(answer) if isinstance(answer, str) else answer


def _progress(member: _Member) -> Iterator[Event]:
    """Views done since the last look, without waiting for an actor that is busy or gone."""
    if not member.holding.ready:
        return
    if member.count is None:
        member.count = member.handle.take_views.remote()
        return
    ready, _ = ray.wait([member.count], timeout=0)
    if not ready:
        return
    member.count = None
    try:
        views = ray.get(ready[0])
    except RayError:
        return  # its units' answers say the same
    if views:
        member.holding.heard()
        yield ViewsDone(views)
