"""Workers on this machine, each its own process; one that dies or hangs is replaced, its units tried again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from dad_datasets.errors import UserError
from dad_datasets.sources import WorkUnit
from dad_pipeline.interruption import interrupted_twice
from dad_pipeline.runners.holding import Holding
from dad_pipeline.runners.retry_queue import Assignment, RetryQueue
from dad_pipeline.runners.runner import Event, Note, ViewsDone
from dad_pipeline.worker import UNITS_IN_FLIGHT, Worker, WorkerLostError, WorkerSettings

LOST_EXIT_CODE = 70
"""Of a worker that ends itself because it can make nothing more."""


@dataclass(frozen=True)
class _Ready:
    """The worker's models are loaded."""


@dataclass(frozen=True)
class _Lost:
    """The worker ends itself."""

    reason: str


_Message = Event | UserError | _Ready | _Lost


@dataclass
class _Member:
    """A worker process and what it holds."""

    process: BaseProcess
    connection: Connection
    holding: Holding
    last_words: str = ""


class ProcessRunner:
    """Runs `workers` processes; on a machine with GPUs, process i takes GPU i modulo their number."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads and locks

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        """See `Runner`. An error of the user or of the device's memory is raised from here."""
        todo = RetryQueue(units, settings.recipe.max_retries)
        limit_s = settings.recipe.stall_timeout_s
        members: list[_Member] = []
        try:
            members += [self._start(index, settings) for index in range(self._workers)]
            while todo or any(member.holding.units for member in members):
                for index, member in enumerate(members):
                    if member.holding.hangs(limit_s):
                        member.last_words = f"no progress for {limit_s:g} s"
                        member.process.kill()
                    while member.connection.poll() or not member.process.is_alive():
                        try:
                            message = member.connection.recv()
                        except (EOFError, ConnectionResetError):
                            yield from todo.lose(member.holding.units.values(), _death(member), workers=self._workers)
                            member.connection.close()
                            members[index] = self._start(index, settings)
                            break
                        yield from _handle(message, member, todo)
                for member in members:  # a unit that came back may go to a worker that had run dry
                    _refill(member, todo)
                wait([member.connection for member in members], timeout=1.0)
        finally:
            _close(members, limit_s)

    def _start(self, index: int, settings: WorkerSettings) -> _Member:
        ours, theirs = self._context.Pipe()
        # Daemonic, so that an interrupted driver does not wait for it when it exits.
        arguments = (theirs, index, settings)
        process = self._context.Process(target=_work, args=arguments, name=f"dad-worker-{index}", daemon=True)
        with _without_interrupts():  # Ctrl-C is for the driver: it lets the workers end their units
            process.start()
        theirs.close()  # so that the death of the process ends the stream on our side
        return _Member(process, ours, Holding(begun=True))


def _refill(member: _Member, todo: RetryQueue) -> None:
    for assignment in member.holding.fill(todo):
        try:
            member.connection.send(assignment)
        except (BrokenPipeError, ConnectionResetError):
            return  # it died; its units come back when its end of the stream is read


def _handle(message: _Message, member: _Member, todo: RetryQueue) -> Iterator[Event]:
    member.holding.heard()
    match message:
        case Exception():
            raise message
        case _Ready():
            member.holding.ready = True
        case _Lost(reason):
            member.last_words = reason
        case ViewsDone() | Note():
            yield message
        case _:
            yield from todo.settle(member.holding.end(message.unit), message)


def _death(member: _Member) -> str:
    """How a worker ended, once it has."""
    member.process.join()
    code = member.process.exitcode
    assert code is not None
    how = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
    return f"its worker died ({member.last_words or how})"


def _close(members: list[_Member], limit_s: float | None) -> None:
    """Let each worker end its units; kill those that hang, and all of them on another interrupt."""
    try:
        for member in members:
            with contextlib.suppress(OSError):
                member.connection.send(None)
        while (living := [member for member in members if member.process.is_alive()]) and not interrupted_twice():
            for member in living:
                _drain(member)
                if member.holding.hangs(limit_s):
                    member.process.kill()
            wait([member.process.sentinel for member in living], timeout=0.1)
    finally:
        for member in members:
            member.process.kill()
            member.process.join()
            member.connection.close()


def _drain(member: _Member) -> None:
    """Read what the worker says: progress shows that it lives, and a full pipe would stop it."""
    with contextlib.suppress(EOFError, ConnectionResetError):
        while member.connection.poll():
            member.connection.recv()
            member.holding.heard()


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
    """The body of a worker process: units come in, messages go out, until the driver says so or is gone."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(index % torch.cuda.device_count())
    lock = threading.Lock()

    def send(message: _Message) -> None:
        # Without a driver units are published all the same: nobody needs to hear of it.
        with lock, contextlib.suppress(BrokenPipeError, ConnectionResetError, OSError):
            connection.send(message)

    def generate(worker: Worker, assignment: Assignment) -> None:
        try:
            send(worker.generate(assignment.unit, careful=assignment.careful))
        except UserError as error:
            send(error)
        except WorkerLostError as error:
            send(_Lost(str(error)))
            os._exit(LOST_EXIT_CODE)  # from a thread, and past handlers that would use the device

    try:
        worker = Worker(settings, on_views=lambda count: send(ViewsDone(count)))
    except UserError as error:
        send(error)
        return
    except WorkerLostError as error:
        send(_Lost(str(error)))
        return
    send(_Ready())
    with ThreadPoolExecutor(UNITS_IN_FLIGHT, thread_name_prefix="unit") as threads:
        while True:
            try:
                assignment = connection.recv()
            except (EOFError, ConnectionResetError):
                break
            if assignment is None:
                break
            threads.submit(generate, worker, assignment)
    worker.close()
