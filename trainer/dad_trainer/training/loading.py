"""Batches of an epoch from any position in it, loaded by any number of workers."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Sampler

from dad_datasets.errors import UserError
from dad_trainer.training.batch import Batch, Collate
from dad_trainer.training.items import ItemPlace, Items
from dad_trainer.training.order import epoch_order, process_slice
from dad_trainer.training.streams import Stream


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """How an epoch's samples fall to batches, processes and forward passes.

    A global batch of `samples` is shared equally among the processes, and each share is cut into `accumulate` parts
    that go through the student one after the other. An epoch's last, smaller batch is left out.
    """

    samples: int
    process: int = 0
    processes: int = 1
    accumulate: int = 1
    block_shards: int | None = None

    def steps_per_epoch(self, streams: Sequence[Stream]) -> int:
        return sum(stream.order.visits * stream.order.views for stream in streams) // self.samples


class EpochBatches(Sampler[list[ItemPlace]]):
    """The places of each forward pass of one process, from global batch `first` of the epoch on."""

    def __init__(self, plan: BatchPlan, streams: Sequence[Stream], *, seed: int, epoch: int, first: int) -> None:
        self._plan, self._streams = plan, streams
        self._seed, self._epoch, self._first = seed, epoch, first

    def __len__(self) -> int:
        return (self._plan.steps_per_epoch(self._streams) - self._first) * self._plan.accumulate

    def __iter__(self) -> Iterator[list[ItemPlace]]:
        plan = self._plan
        order = epoch_order(
            [stream.order for stream in self._streams],
            seed=self._seed,
            epoch=self._epoch,
            block_shards=plan.block_shards,
        )
        for step in range(self._first, plan.steps_per_epoch(self._streams)):
            batch = order[step * plan.samples : (step + 1) * plan.samples]
            share = process_slice(batch, process=plan.process, processes=plan.processes)
            for part in range(plan.accumulate):
                piece = process_slice(share, process=part, processes=plan.accumulate)
                yield [(self._epoch, *place) for place in piece.tolist()]


def epoch_loader(
    items: Items, batches: EpochBatches, collate: Collate, *, workers: int, device: torch.device
) -> Iterable[Batch | UserError]:
    """The batches of an epoch, or in place of one the user's mistake that was found in it.

    Which workers load them changes nothing in them.
    """
    return DataLoader(
        items,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
        worker_init_fn=_begin_worker if workers else None,
    )


def _begin_worker(worker: int) -> None:
    # Beside a training process more threads than cores only slow both down.
    torch.set_num_threads(1)
    # A signal to the whole process group is for that process: it ends after a step, for which it needs its workers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
