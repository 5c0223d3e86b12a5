"""What both halves ask of torch: a device by its number, float32 that is float32, and whether it can compile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from dad_datasets.errors import UserError


def choose_device(name: Literal["auto", "cpu", "cuda"], *, field: str) -> torch.device:
    """The device that `field` means: a GPU is this thread's, by its number. UserError where there is none.

    The number matters: torch takes "cuda" alone for the current GPU of whichever thread asks, in a new one the first.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError(f"{field} = cuda: no GPU was found; allowed here: cpu, auto")
    if name == "cpu" or not available:
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def exact_float32() -> None:
    """Keep TF32 out of this process: it rounds to 2**-11, of the order of a whole small perturbation."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


class OutOfDeviceMemoryError(UserError):
    """A batch does not fit the device."""


@contextmanager
def full_memory_as_sentence(what: str, remedy: str) -> Iterator[None]:
    """Where the device's memory is full, say so of `what` ("a batch does"), with a `remedy` if there is one."""
    try:
        yield
    except torch.OutOfMemoryError:
        tried = f": try {remedy}" if remedy else ""
        raise OutOfDeviceMemoryError(f"{what} not fit the device's memory{tried}") from None


def require_compiler(device: torch.device, *, otherwise: str = "false") -> None:
    """UserError where not even a sine can be compiled, with what is allowed without a compiler."""
    try:
        torch.compile(torch.sin, dynamic=False)(torch.zeros(8, device=device))
    except (RuntimeError, OSError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"compute.compile = true: torch.compile does not work on this machine ({reason}); it needs a C++ compiler "
            f"for the CPU, Triton and a C compiler for a GPU; allowed without them: {otherwise}"
        ) from None
