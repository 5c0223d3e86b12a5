"""One worker in this process: the reference that every other runner must equal byte for byte."""

from __future__ import annotations

import queue
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from dad_datasets.errors import UserError
from dad_datasets.sources import WorkUnit
from dad_pipeline.models import Models
from dad_pipeline.runners.holding import Holding
from dad_pipeline.runners.retry_queue import RetryQueue
from dad_pipeline.runners.runner import Event, ViewsDone
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.worker import UNITS_IN_FLIGHT, UnitFailure, Worker, WorkerLostError, WorkerSettings


class InlineRunner:
    """Runs the units in threads of this process, with models that are loaded already.

    What ends or hangs this process ends or hangs the run: the other runners are there for that.
    """

    def __init__(self, models: Models) -> None:
        self._models = models

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        """See `Runner`. An error of the user or of the device is raised from here."""
        progress: queue.SimpleQueue[ViewsDone | Future[UnitReport | UnitFailure]] = queue.SimpleQueue()
        todo = RetryQueue(units, settings.recipe.max_retries)
        holding = Holding(begun=True, ready=True)
        running: dict[Future[UnitReport | UnitFailure], str] = {}
        try:
            with (
                closing(Worker(settings, lambda count: progress.put(ViewsDone(count)), self._models)) as worker,
                ThreadPoolExecutor(UNITS_IN_FLIGHT, thread_name_prefix="unit") as threads,
            ):

                def refill() -> None:
                    for assignment in holding.fill(todo):
                        future = threads.submit(worker.generate, assignment.unit)
                        running[future] = assignment.unit.name
                        future.add_done_callback(progress.put)

                refill()
                while running:
                    event = progress.get()
                    if isinstance(event, ViewsDone):
                        yield event
                        continue
                    yield from todo.settle(holding.end(running.pop(event)), event.result())
                    refill()
        except WorkerLostError as error:
            raise UserError(f"this process can make nothing more ({error}): the same command goes on") from error
