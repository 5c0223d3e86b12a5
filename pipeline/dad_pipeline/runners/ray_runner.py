"""Workers as Ray actors, one a GPU or a share of the cores: the only file that imports ray."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from dad_datasets.errors import UserError
from dad_datasets.sources import WorkUnit
from dad_pipeline.runners.runner import Event, RetryQueue, ViewsDone
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.worker import UNITS_IN_FLIGHT, UnitFailure, Worker, WorkerSettings

POLL_S = 1.0


class _WorkerActor:
    """The actor: a Worker, and a count of views that the driver asks for while units are running."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._views = 0
        self._lock = threading.Lock()
        # Ray would turn an error raised here into a dead actor, and its text into a traceback.
        self._mistake: UserError | None = None
        try:
            self._worker = Worker(settings, on_views=self._count)
        except UserError as mistake:
            self._mistake = mistake

    def _count(self, views: int) -> None:
        with self._lock:
            self._views += views

    def generate(self, unit: WorkUnit) -> UnitReport | UnitFailure:
        if self._mistake is not None:
            raise self._mistake
        return self._worker.generate(unit)

    def take_views(self) -> int:
        with self._lock:
            views, self._views = self._views, 0
        return views


@dataclass
class _Member:
    """An actor, its running units by Ray's reference, and the pending answer to the last question for its count."""

    handle: Any
    units: dict[Any, WorkUnit] = field(default_factory=dict)
    count: Any = None


class RayRunner:
    """Runs actors on a cluster: the one at `address`, or one started on this machine.

    Ray sets OMP_NUM_THREADS in its workers; the recipe's thread count is set through torch and overrides it. Every node
    needs this package installed and must see the recipe's files and the output directory at the same paths.
    """

    def __init__(self, *, workers: int | None, address: str | None) -> None:
        self._workers = workers
        self._address = address

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        """See `Runner`. An error of the user or of the device's memory is raised from here."""
        started = not ray.is_initialized()
        if started:
            _connect(self._address)
        members: list[_Member] = []
        try:
            count, options = self._placement(settings)
            actor = ray.remote(_WorkerActor).options(max_concurrency=UNITS_IN_FLIGHT + 1, **options)
            members += [_Member(actor.remote(settings)) for _ in range(count)]
            yield from _drive(members, actor, RetryQueue(units, settings.recipe.max_retries), settings)
        finally:
            for member in members:
                ray.kill(member.handle)
            if started:
                ray.shutdown()

    def _placement(self, settings: WorkerSettings) -> tuple[int, dict[str, float]]:
        """How many actors, and what each of them holds."""
        resources = ray.cluster_resources()
        if settings.recipe.compute.device == "cuda":
            gpus = int(resources.get("GPU", 0))
            if not gpus:
                raise UserError("compute.device = cuda: the Ray cluster has no GPU; allowed here: cpu, auto")
            workers = self._workers or gpus
            return workers, {"num_gpus": min(1.0, gpus / workers)}
        cores = int(resources.get("CPU", 1))
        threads = settings.recipe.compute.threads
        assert threads != "auto"
        workers = self._workers or max(1, cores // threads)
        return workers, {"num_cpus": min(float(threads), cores / workers)}


def _connect(address: str | None) -> None:
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--ray-address {address}: no Ray cluster could be reached: {reason}") from None


def _drive(members: list[_Member], actor: Any, todo: RetryQueue, settings: WorkerSettings) -> Iterator[Event]:
    for member in members:
        _refill(member, todo)
    while any(member.units for member in members):
        running = [reference for member in members for reference in member.units]
        ready, _ = ray.wait(running, num_returns=1, timeout=POLL_S)
        for index, member in enumerate(members):
            yield from _progress(member)
            for reference in [r for r in ready if r in member.units]:
                unit = member.units.pop(reference, None)
                if unit is None:
                    continue  # given back already, with the rest of a dead actor's units
                outcome = _outcome(reference, unit)
                if isinstance(outcome, _Died):
                    lost = [unit, *member.units.values()]
                    members[index] = member = _Member(actor.remote(settings))
                    yield from todo.lose(lost, outcome.reason)
                else:
                    yield from todo.settle(unit, outcome)
        for member in members:
            _refill(member, todo)


def _refill(member: _Member, todo: RetryQueue) -> None:
    while len(member.units) < UNITS_IN_FLIGHT and (unit := todo.take()) is not None:
        member.units[member.handle.generate.remote(unit)] = unit


@dataclass(frozen=True)
class _Died:
    reason: str


def _outcome(reference: Any, unit: WorkUnit) -> UnitReport | UnitFailure | _Died:
    try:
        outcome: UnitReport | UnitFailure = ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        return UnitFailure(unit=unit.name, reason=str(error.cause))
    except RayActorError as error:
        return _Died(f"its worker died ({str(error).splitlines()[0]})")
    return outcome


def _progress(member: _Member) -> Iterator[Event]:
    """Views done since the last look, without waiting for an actor that is busy or gone."""
    if member.count is None:
        member.count = member.handle.take_views.remote()
        return
    ready, _ = ray.wait([member.count], timeout=0)
    if ready:
        try:
            yield ViewsDone(ray.get(ready[0]))
        except RayActorError:
            return
        finally:
            member.count = None
