"""The processes of one training run: one, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch import distributed as dist

from dad_datasets.cli import EXIT_USER_ERROR
from dad_datasets.errors import UserError
from dad_datasets.torch_devices import choose_device
from dad_trainer.training.recipe import DeviceName

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process's place among `count` equal ones."""

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and shows."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def from_lead(self, values: Tensor) -> Tensor:
        """The leading process's `values`, in all of them."""
        if self.count > 1:
            values = values.clone()
            dist.broadcast(values, 0)
        return values

    def together(self, work: Callable[[], T]) -> T:
        """What `work` gives here, once it has ended well in all processes.

        Where a user's mistake ended it in some, the first of these raises its UserError and the others leave silently,
        so that none waits for ever and the sentence stands on the screen once.
        """
        result, error = None, None
        try:
            result = work()
        except UserError as mistake:
            error = mistake
        if self.count > 1:
            own = torch.tensor([self.count if error is None else self.rank], device=self.device)
            dist.all_reduce(own, op=dist.ReduceOp.MIN)
            if int(own) not in (self.count, self.rank):
                raise SystemExit(EXIT_USER_ERROR)
        if error is not None:
            raise error
        return cast(T, result)


@contextmanager
def joined_processes(device: DeviceName) -> Iterator[Processes]:
    """Joins the process group where torchrun made one, and leaves it in the end. UserError where a GPU is missing."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(rank=0, count=1, device=choose_device(device, field="compute.device"))
        return
    if missing := [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise UserError(f"WORLD_SIZE is {count}, but {missing[0]} is not set: start several processes with torchrun")
    if torch.cuda.is_available() and device != "cpu":
        local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= there:
            raise UserError(f"process {local} of this machine has no GPU: it has {there}")
        torch.cuda.set_device(local)  # before anything looks at a GPU: that would be the first one, in every process
    place = choose_device(device, field="compute.device")
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Processes(rank=dist.get_rank(), count=count, device=place)
    finally:
        dist.destroy_process_group()
