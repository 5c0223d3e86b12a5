"""Where the images of many source keys stand, in 36 bytes each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Place(NamedTuple):
    """`file` is a number that the maker of the table gave."""

    file: int
    offset: int
    length: int


class Places(NamedTuple):
    """The images of one file. `digests` uint64 [n, 2], see `digests_of`."""

    file: int
    digests: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]


class KeyTable:
    """Keys are held as 128 bits of BLAKE2b: one half is searched, the other verifies.

    Two of 10^9 keys are alike in both with a probability of 10^-21, so that the keys themselves need not be kept: a
    dict of them would take some 250 bytes a key, in each worker. Of a key given twice, the first place counts.
    """

    def __init__(self, files: Iterable[Places]) -> None:
        parts = list(files)
        digests = np.concatenate([np.empty((0, 2), np.uint64), *(part.digests for part in parts)])
        order = np.argsort(digests[:, 0], kind="stable")
        self._searched = digests[order, 0]
        self._verified = digests[order, 1]
        self._offsets = np.concatenate([np.empty(0, np.int64), *(part.offsets for part in parts)])[order]
        self._lengths = np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)])[order]
        numbers = np.array([part.file for part in parts], np.int32)
        self._files = np.repeat(numbers, [len(part.digests) for part in parts])[order]

    def __len__(self) -> int:
        return len(self._searched)

    def __contains__(self, key: str) -> bool:
        try:
            self.find(key)
        except KeyError:
            return False
        return True

    def find(self, key: str) -> Place:
        """KeyError where the key is not in the table."""
        searched, verified = digests_of([key])[0]
        row = int(np.searchsorted(self._searched, searched))
        while row < len(self._searched) and self._searched[row] == searched:
            if self._verified[row] == verified:
                return Place(int(self._files[row]), int(self._offsets[row]), int(self._lengths[row]))
            row += 1
        raise KeyError(key)


def digests_of(keys: Iterable[str]) -> npt.NDArray[np.uint64]:
    """uint64 [n, 2]: 128 bits of each key."""
    digests = b"".join(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest() for key in keys)
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)
