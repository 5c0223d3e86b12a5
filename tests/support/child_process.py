"""A function run in a forked child, as the workers of a data loader are."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_child(*functions: Callable[[], T]) -> list[T]:
    """Run each in a child of its own, all at the same time; their results, which must be picklable."""
    context = multiprocessing.get_context("fork")
    children = []
    for function in functions:
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=lambda sender=sender, function=function: sender.send(function()))
        child.start()
        sender.close()
        children.append((child, receiver))
    results: list[T] = [receiver.recv() for _, receiver in children]
    for child, _ in children:
        child.join()
        assert child.exitcode == 0
    return results
