"""`compute.batch_size: auto`: how many views a model call takes, found before the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from dad_datasets.errors import UserError

ON_CPU = 32
"""A CPU's caches are full long before this; larger batches cost memory and no less time."""

LARGEST = 256
"""A GPU is busy with this many views of 224 px; more would make only the last batch of a unit wait longer."""

ROOM = 0.9
"""Share of the GPU's memory that a trial may use: what is left is for fragmentation and other programs."""


def find_batch_size(device: torch.device, trial: Callable[[int], object]) -> int:
    """The largest power of two up to LARGEST for which `trial`, the model work on so many views, fits `device`.

    On a CPU nothing is tried. UserError where not even one view fits.
    """
    if device.type == "cpu":
        return ON_CPU
    with _limited_memory(device):
        return largest_fitting(trial)


def largest_fitting(trial: Callable[[int], object]) -> int:
    """The largest power of two up to LARGEST that `trial` takes without torch.OutOfMemoryError, tried upwards."""
    fitting = 0
    size = 1
    while size <= LARGEST and _fits(trial, size):
        fitting, size = size, 2 * size
    if not fitting:
        raise UserError("compute.batch_size = auto: not even one view fits the GPU's memory")
    return fitting


def _fits(trial: Callable[[int], object], size: int) -> bool:
    try:
        trial(size)
    except torch.OutOfMemoryError:
        return False
    return True


@contextmanager
def _limited_memory(device: torch.device) -> Iterator[None]:
    torch.cuda.set_per_process_memory_fraction(ROOM, device)
    try:
        yield
    finally:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1.0, device)
