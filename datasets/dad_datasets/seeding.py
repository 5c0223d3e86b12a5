"""Randomness that belongs to a sample, not to a process: every draw is a function of names, never of global state."""

from __future__ import annotations

import hashlib

import numpy as np


def generator_for(*parts: str | int) -> np.random.Generator:
    """A generator seeded by `parts` alone, such as (run seed, source key, view, purpose).

    The same parts give the same stream on every machine, in every process and in any order of calls. Parts are
    length-prefixed before hashing, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.sha256()
    for part in parts:
        encoded = f"{type(part).__name__}:{part}".encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest()[:16], "little")))
