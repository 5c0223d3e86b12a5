"""Which stored views `dad verify --replay` computes again."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc

from dad_datasets.folder import Folder
from dad_datasets.index import read_index, read_summary
from dad_datasets.seeding import generator_for


def choose_views(folder: Folder, units: Sequence[str], count: int, seed: int) -> list[tuple[str, str]]:
    """`count` (unit, key) pairs of adversarial views drawn without replacement, all of them where there are fewer."""
    stored = [read_summary(folder, unit).ok for unit in units]
    total = sum(stored)
    rng = generator_for("replay", seed)
    chosen = sorted(rng.choice(total, size=min(count, total), replace=False).tolist())
    pairs: list[tuple[str, str]] = []
    first = 0
    for unit, size in zip(units, stored, strict=True):
        places = [number - first for number in chosen if first <= number < first + size]
        if places:
            rows = read_index(folder, unit, ["key", "status"])
            keys = rows.filter(pc.equal(rows["status"], "ok"))["key"]
            pairs += [(unit, keys[place].as_py()) for place in places]
        first += size
    return pairs
