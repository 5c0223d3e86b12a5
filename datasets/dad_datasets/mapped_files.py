"""Random access to local files through memory maps, opened when first read in each process."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from functools import lru_cache

MOST_OPEN = 256
"""Maps kept open: each costs a file descriptor, of which a process often has 1024."""


class MappedFiles:
    """The most recently read files stay mapped, `most_open` of them. Maps are neither pickled nor kept over a fork."""

    def __init__(self, most_open: int = MOST_OPEN) -> None:
        self._most_open = most_open
        self._process = 0
        self._map: Callable[[str], mmap.mmap | bytes] = _map_file

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_process": 0, "_map": _map_file}

    def read(self, path: str, offset: int, length: int) -> bytes:
        """The bytes from `offset`, fewer than `length` where the file ends. OSError where it cannot be opened."""
        if self._process != os.getpid():
            # A map that falls out is closed once nobody reads it: other threads may, so it is never closed by hand.
            self._map, self._process = lru_cache(self._most_open)(_map_file), os.getpid()
        return bytes(self._map(path)[offset : offset + length])


def _map_file(path: str) -> mmap.mmap | bytes:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""  # which cannot be mapped
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
