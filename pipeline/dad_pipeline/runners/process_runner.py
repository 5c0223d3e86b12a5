"""Several workers on this machine, each its own process; one that dies is replaced, its units tried again."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from dad_datasets.errors import UserError
from dad_datasets.sources import WorkUnit
from dad_pipeline.runners.runner import Event, RetryQueue, ViewsDone
from dad_pipeline.worker import UNITS_IN_FLIGHT, Worker, WorkerSettings


@dataclass
class _Member:
    """A worker process and the units that it holds."""

    process: BaseProcess
    connection: Connection
    units: dict[str, WorkUnit] = field(default_factory=dict)


class ProcessRunner:
    """Runs `workers` processes; on a machine with GPUs, process i takes GPU i modulo their number."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads and locks

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        """See `Runner`. An error of the user or of the device's memory is raised from here."""
        todo = RetryQueue(units, settings.recipe.max_retries)
        members = [self._start(index, settings) for index in range(self._workers)]
        try:
            for member in members:
                _refill(member, todo)
            while any(member.units for member in members):
                for index, member in enumerate(members):
                    if not member.connection.poll() and member.process.is_alive():
                        continue
                    try:
                        event = member.connection.recv()
                    except (EOFError, ConnectionResetError):
                        member.process.join()
                        reason = f"its worker died (exit code {member.process.exitcode})"
                        yield from todo.lose(member.units.values(), reason)
                        members[index] = self._start(index, settings)
                        _refill(members[index], todo)
                        continue
                    yield from _handle(event, member, todo)
                    for other in members:  # a unit that was given back may go to a worker that had run dry
                        _refill(other, todo)
                wait([m.connection for m in members if m.units], timeout=1.0)
        finally:
            for member in members:
                member.connection.close()
            for member in members:
                member.process.join()

    def _start(self, index: int, settings: WorkerSettings) -> _Member:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, index, settings), name=f"dad-worker-{index}")
        with _without_interrupts():  # Ctrl-C is for the driver: it lets the workers end their units
            process.start()
        theirs.close()  # so that the death of the process ends the stream on our side
        return _Member(process, ours)


def _refill(member: _Member, todo: RetryQueue) -> None:
    while len(member.units) < UNITS_IN_FLIGHT and (unit := todo.take()) is not None:
        member.units[unit.name] = unit
        try:
            member.connection.send(unit)
        except (BrokenPipeError, ConnectionResetError):
            return  # it died; its units come back when its end of the stream is read


def _handle(event: Event | UserError, member: _Member, todo: RetryQueue) -> Iterator[Event]:
    if isinstance(event, Exception):
        raise event
    if isinstance(event, ViewsDone):
        yield event
        return
    yield from todo.settle(member.units.pop(event.unit), event)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process started inside ignores SIGINT for its whole life; only the main thread may change signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(connection: Connection, index: int, settings: WorkerSettings) -> None:
    """The body of a worker process: units come in, events go out, until the driver closes the connection."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(index % torch.cuda.device_count())
    lock = threading.Lock()

    def send(event: Event | Exception) -> None:
        # Without a driver units are published all the same: nobody needs to hear of it.
        with lock, contextlib.suppress(BrokenPipeError, ConnectionResetError, OSError):
            connection.send(event)

    def generate(worker: Worker, unit: WorkUnit) -> None:
        try:
            send(worker.generate(unit))
        except UserError as error:
            send(error)

    try:
        worker = Worker(settings, on_views=lambda count: send(ViewsDone(count)))
    except UserError as error:
        send(error)
        return
    with ThreadPoolExecutor(UNITS_IN_FLIGHT, thread_name_prefix="unit") as threads:
        while True:
            try:
                unit = connection.recv()
            except (EOFError, ConnectionResetError):
                break
            threads.submit(generate, worker, unit)
    worker.close()
