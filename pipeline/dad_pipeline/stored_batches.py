"""The rows of a unit in the batches in which its views went through the models when they were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dad_pipeline.adversarial_views import Unusable


def stored_batches(
    rows: Sequence[Mapping[str, Any]], attacked: Sequence[bool], *, attack: bool, batch_size: int
) -> Iterator[list[int]]:
    """Places in `rows` of each batch of attacked (or clean-only) views; `attacked` says which view numbers are.

    Kernels choose their order of summing by the batch's size, so only the batches of the run that made the views can
    give its last bits again. A view that failed before the models leaves its place empty there, as here; one on which
    the models gave no finite result took part, and is among the places.
    """
    places = [place for place, row in enumerate(rows) if attacked[row["view"]] == attack]
    for start in range(0, len(places), batch_size):
        batch = [place for place in places[start : start + batch_size] if _went_through(rows[place])]
        if batch:
            yield batch


def _went_through(row: Mapping[str, Any]) -> bool:
    return bool(row["status"] != "failed" or row["reason"] == Unusable.reason)
