"""What a run finds in the folder that it goes on in: finished units, their failures, that they are its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index import read_summary
from dad_datasets.layout import index_name
from dad_pipeline.unit_table import UnitTable

MOST_OPENED = 1000
"""Indexes that are opened when a run goes on: on an object store each costs a request or two."""

THREADS = 16
"""Remote indexes are waited for, not computed."""


def failed_views(folder: Folder, done: Sequence[str], units: UnitTable, fingerprint: str, *, most_opened: int) -> int:
    """How many views of the finished units `done` failed. UserError where one of them was made by another run.

    Of more than `most_opened`, that many are opened, spread evenly, and their failures stand for all. Another run's
    index among the others is found when the dataset is finished, which opens every one.
    """
    strangers = units.strangers(done)
    opened = list(done)
    if len(done) > most_opened:
        opened = [done[len(done) * number // most_opened] for number in range(most_opened)]
    with ThreadPoolExecutor(THREADS) as pool:
        summaries = list(pool.map(partial(read_summary, folder), [name for name in opened if name not in strangers]))
    others = strangers + [summary.unit for summary in summaries if summary.fingerprint != fingerprint]
    if others:
        first = f"{folder.url}/{index_name(min(others))}"
        raise UserError(f"{first} was made by another run: choose another output directory")
    return round(sum(summary.failed for summary in summaries) * len(done) / max(1, len(opened)))
