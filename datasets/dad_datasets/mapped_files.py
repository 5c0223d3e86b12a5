"""Random access to local files through memory maps, opened when first read in each process."""

from __future__ import annotations

import mmap
import os
from functools import lru_cache

MOST_OPEN = 256
"""Maps kept open in a process: each costs a file descriptor, of which it often has 1024."""


class MappedFiles:
    """The files that were read last in this process, through whichever of these objects, stay mapped.

    Maps are neither pickled nor kept over a fork, and no two objects share one: a file may have been written anew
    between the opening of a dataset and of the next one under the same name.
    """

    def __init__(self) -> None:
        self._owner = object()

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        self._owner = object()

    def read(self, path: str, offset: int, length: int) -> bytes:
        """The bytes from `offset`, fewer than `length` where the file ends. OSError where it cannot be opened."""
        return _mapped_file(self._owner, path)[offset : offset + length]


# A map that falls out is closed once nobody reads it: other threads may, so it is never closed by hand.
@lru_cache(MOST_OPEN)
def _mapped_file(owner: object, path: str) -> mmap.mmap | bytes:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""  # which cannot be mapped
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


os.register_at_fork(after_in_child=_mapped_file.cache_clear)
