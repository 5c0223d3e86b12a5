"""Ctrl-C said aloud at once, whatever the program waits for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STANDARD_ERROR = 2

_interrupts = 0
"""How often SIGINT came in the block: signals are the process's, and so is their count."""


def interrupted_twice() -> bool:
    """Whether a block that was told of its interruption was interrupted again, and is to stop at once.

    For whoever waits while it is closed down: the KeyboardInterrupt of the second signal may have been raised
    before it began to wait, in some other's clearing up, or in a place where Python drops exceptions.
    """
    return _interrupts > 1


@contextmanager
def told_of_interruption(what: str) -> Iterator[None]:
    """The first SIGINT in the block says `what` is done now; it and later ones raise KeyboardInterrupt as ever."""
    global _interrupts
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as for a job that a shell began in the background
    if ignored or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        global _interrupts
        _interrupts += 1
        if _interrupts == 1:
            # Not through the console: the signal may have come while that was writing. Not from here: another signal
            # that came meanwhile would be one with this.
            message = f"\ninterrupted: {what}; Ctrl-C again to stop at once\n".encode()
            threading.Thread(target=os.write, args=(STANDARD_ERROR, message)).start()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _interrupts = 0
