"""The processes of one training run: one, or those that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from dad_datasets.errors import UserError
from dad_trainer.training.recipe import DeviceName


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

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def joined_processes(device: DeviceName) -> Iterator[Processes]:
    """Joins the process group where torchrun made one, and leaves it in the end. UserError where a GPU is missing."""
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("compute.device = cuda: no GPU was found; allowed here: cpu, auto")
    on_gpu = available and device != "cpu"
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(rank=0, count=1, device=torch.device("cuda" if on_gpu else "cpu"))
        return
    place = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(rank=dist.get_rank(), count=count, device=place)
    finally:
        dist.destroy_process_group()
