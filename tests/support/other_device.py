"""A device that is not the CPU, on any machine: tensors there have shapes and types but no values.

torch's FakeTensor refuses to mix devices, as a GPU would. Its stand-in for one is the device type "lazy", which no
build of torch has: unlike "cuda" it needs no driver for gradients. What depends on values (`item`, `numpy`, `equal`) is
refused.
"""

from __future__ import annotations

import sys
from functools import _lru_cache_wrapper

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

DEVICE = torch.device("lazy", 0)

VALUELESS = FakeTensorMode()
"""The context in which all that is made has no values; one for all, since constants are cached."""


def forget_constants() -> None:
    """Clear this project's caches: those filled in VALUELESS are of no use outside it, and the other way round."""
    for name, module in list(sys.modules.items()):
        if name.startswith("dad_"):
            for value in vars(module).values():
                if isinstance(value, _lru_cache_wrapper):
                    value.cache_clear()


def move(module: nn.Module) -> None:
    """Give a module parameters and buffers on DEVICE; call it inside VALUELESS."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype, device=DEVICE)
            part._parameters[name] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=DEVICE)


def without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast knows no "lazy"; it moves nothing anyway."""
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: autocast("cpu", enabled=False))
