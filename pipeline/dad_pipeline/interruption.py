"""Ctrl-C said aloud at once, whatever the program waits for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STANDARD_ERROR = 2


@contextmanager
def told_of_interruption(what: str) -> Iterator[None]:
    """The first SIGINT in the block says `what` is done now; it and later ones raise KeyboardInterrupt as ever."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # as for a job that a shell began in the background
    if ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    told = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            # Not through the console: the signal may have come while that was writing. Not from here: another signal
            # that came meanwhile would be one with this.
            message = f"\ninterrupted: {what}; Ctrl-C again to stop at once\n".encode()
            threading.Thread(target=os.write, args=(STANDARD_ERROR, message)).start()
        told = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
