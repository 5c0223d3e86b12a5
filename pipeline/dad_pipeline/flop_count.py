"""Counting a computation's floating-point operations while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopCount(TorchDispatchMode):
    """A context manager; `total` is what products, convolutions and attention took, their gradients included.

    A multiplication and an addition count two, as in `torch.utils.flop_counter`, whose formulas these are. Its
    FlopCounterMode tells modules apart too, and for that hooks their inputs, which fails where a gradient is taken with
    respect to them, as attacks do.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without types
        self.total: int = 0
        self._fastpath: list[bool] = []

    def __enter__(self) -> Self:
        # Without gradients MultiheadAttention is one operator that has no formula: its projections would be lost.
        self._fastpath.append(torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        super().__enter__()  # type: ignore[no-untyped-call]  # as above
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]  # as above
        torch.backends.mha.set_fastpath_enabled(self._fastpath.pop())

    def __torch_dispatch__(
        self,
        func: Any,  # torch's operators have no public type
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        formula: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # an operator made of others counts by them
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += int(formula(*args, **kwargs, out_val=out))
        return out
