"""Errors after which a process cannot use its device any more, told apart from those of one unit."""

from __future__ import annotations

import torch

_TRACES = ("CUDA error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "cuDNN error", "CUFFT_", "HIP error", "device-side assert")
"""In the messages of RuntimeErrors: not every library of the device has a type of its own."""


def is_device_failure(error: BaseException) -> bool:
    """Whether `error` leaves the device unusable for its process, as a CUDA error does; a lack of memory does not."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    accelerator_error = getattr(torch, "AcceleratorError", None)  # since torch 2.8
    if accelerator_error is not None and isinstance(error, accelerator_error):
        return True
    return isinstance(error, RuntimeError) and any(trace in str(error) for trace in _TRACES)


def reason_of(error: BaseException) -> str:
    """Its type and the first line of its message: CUDA's go on for a paragraph."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
