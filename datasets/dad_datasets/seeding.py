"""Randomness that belongs to a sample, not to a process: every draw is a function of names, never of global state."""

from __future__ import annotations

import hashlib
import json

import numpy as np


def generator_for(*parts: str | int) -> np.random.Generator:
    """A generator seeded by `parts` alone, such as (run seed, source key, view, purpose).

    The same parts give the same stream on every machine, in every process and in any order of calls; others give an
    independent one (128 bits of SHA-256).
    """
    # JSON, because gluing the parts together would give ("a", 11) and ("a1", 1) one stream; it also escapes the lone
    # surrogates that stand for undecodable bytes in file names.
    identity = json.dumps(parts).encode("ascii")
    return np.random.Generator(np.random.Philox(key=int.from_bytes(hashlib.sha256(identity).digest()[:16], "little")))
