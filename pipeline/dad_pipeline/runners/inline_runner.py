"""One worker in this process: the reference that every other runner must equal byte for byte."""

from __future__ import annotations

import queue
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from dad_datasets.sources import WorkUnit
from dad_pipeline.models import Models
from dad_pipeline.runners.runner import Event, RetryQueue, ViewsDone
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.worker import UNITS_IN_FLIGHT, UnitFailure, Worker, WorkerSettings


class InlineRunner:
    """Runs the units in threads of this process, with models that are loaded already."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        """See `Runner`. An error of the user or of the device's memory is raised from here."""
        progress: queue.SimpleQueue[ViewsDone | Future[UnitReport | UnitFailure]] = queue.SimpleQueue()
        todo = RetryQueue(units, settings.recipe.max_retries)
        running: dict[Future[UnitReport | UnitFailure], WorkUnit] = {}
        with (
            closing(Worker(settings, lambda count: progress.put(ViewsDone(count)), self._models)) as worker,
            ThreadPoolExecutor(UNITS_IN_FLIGHT, thread_name_prefix="unit") as threads,
        ):

            def refill() -> None:
                while len(running) < UNITS_IN_FLIGHT and (unit := todo.take()) is not None:
                    future = threads.submit(worker.generate, unit)
                    running[future] = unit
                    future.add_done_callback(progress.put)

            refill()
            while running:
                event = progress.get()
                if isinstance(event, ViewsDone):
                    yield event
                    continue
                yield from todo.settle(running.pop(event), event.result())
                refill()
