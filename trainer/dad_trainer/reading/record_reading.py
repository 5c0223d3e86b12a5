"""The indexes of a dataset read into a table of records, and its shards checked to be there, before training."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index import ShardSummary, read_index, read_summary, read_summary_and_index
from dad_datasets.layout import MANIFEST, SHARD_TABLE, shard_name
from dad_datasets.manifest import Manifest
from dad_datasets.shard_table import read_shard_table
from dad_datasets.summary import finished_units
from dad_trainer.reading.other_teacher import OtherTeacher
from dad_trainer.reading.record_table import ABSENT, LOGITS, MEMBERS, RecordCounts, RecordTable
from dad_trainer.reading.stored_form import StoredForm
from dad_trainer.reading.where import columns_of, keep

THREADS = 16
"""Remote indexes are waited for, not computed."""

_BOX = ("box_left", "box_top", "box_right", "box_bottom")
_COLUMNS = ("source_key", "view", "label", "status", "canvas_sha256", "flip", *_BOX)


@dataclass(frozen=True, kw_only=True)
class RecordChoice:
    """Which rows become records: those that `where` keeps and that have an image asked for. Of attacked views, the
    clean image alone may be asked for: they are not `attacked` then."""

    where: str | None = None
    clean_images: bool = True
    adversarial_images: bool = True

    def of(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        statuses = ["ok", "clean_only"] if self.clean_images else ["ok"]
        chosen = pc.is_in(rows["status"], pa.array(statuses)).to_numpy()
        return chosen if self.where is None else chosen & keep(self.where, rows)


def read_records(
    folder: Folder, manifest: Manifest, form: StoredForm, choice: RecordChoice, teacher: OtherTeacher | None = None
) -> RecordTable:
    """The records of an adversarial dataset. UserError where there is none, or a shard is not as it was written.

    Every index is read once, and of each shard it is asked whether it is there with all its bytes. `teacher`'s logits
    and figures take the place of the dataset's own, before `choice` is made; views that it failed on have failed.
    """
    summaries = _shards_of(folder, manifest)
    schema = read_index(folder, summaries[0].unit).schema
    if choice.where is not None:
        keep(choice.where, schema.empty_table())  # names and kinds, before a million rows are read
    columns = _columns(schema.names, choice, own_logits=teacher is None)
    with ThreadPoolExecutor(THREADS) as pool:
        unit = _UnitReading(folder, manifest.fingerprint, columns, choice, teacher)
        units = list(pool.map(unit.read, summaries))
    tables = [table for table, _ in units]
    rows = pa.concat_tables(tables)
    num_rows, failed = sum(s.rows for s in summaries), sum(failed for _, failed in units)
    counts = RecordCounts(rows=num_rows, failed=failed, excluded=num_rows - failed - len(rows))
    if counts.kept == 0:
        asked = "" if choice.where is None else f' by where "{choice.where}"'
        raise UserError(
            f"{folder.url}: none of its {counts.rows:,} views is left: {counts.failed:,} failed when they were made, "
            f"{counts.excluded:,} are left out{asked}"
        )
    shards = np.repeat(np.arange(len(tables), dtype=np.int32), [len(table) for table in tables])
    inline_places, inline = _inline(rows, (teacher.form if teacher else form).row_widths)
    keys = rows["source_key"].cast(pa.large_string()).combine_chunks().dictionary_encode()
    return RecordTable(
        counts=counts,
        units=tuple(s.unit for s in summaries),
        shards=shards,
        samples=keys.indices.to_numpy(),
        source_keys=keys.dictionary,
        views=rows["view"].to_numpy(),
        labels=rows["label"].to_numpy(),
        attacked=pc.equal(rows["status"], "ok").to_numpy() & choice.adversarial_images,
        boxes=np.stack([rows[name].to_numpy() for name in _BOX], axis=1),
        flips=rows["flip"].to_numpy(),
        canvas_sha256=rows["canvas_sha256"].combine_chunks(),
        spans={m: _span(rows, m) for m in MEMBERS if f"{m}_offset" in rows.column_names},
        inline_places=inline_places,
        inline=inline,
    )


def _shards_of(folder: Folder, manifest: Manifest) -> list[ShardSummary]:
    if manifest.state != "finished":
        summaries = [read_summary(folder, unit) for unit in finished_units(folder)]
        if not summaries:
            raise UserError(f"{folder.url}: not one shard is finished")
        return summaries
    summaries = read_shard_table(folder)
    if len(summaries) != manifest.shards:
        raise UserError(
            f"{folder.url}: {SHARD_TABLE} lists {len(summaries)} shards, {MANIFEST} says {manifest.shards}: "
            "one of them is of another run"
        )
    return summaries


def _columns(stored: Sequence[str], choice: RecordChoice, *, own_logits: bool) -> list[str]:
    members = [member for member in MEMBERS if own_logits or member not in LOGITS]
    spans = [f"{member}_{part}" for member in members for part in ("offset", "length")]
    optional = [name for name in (*spans, *(LOGITS if own_logits else ())) if name in stored]
    asked = () if choice.where is None else columns_of(choice.where)
    return list(dict.fromkeys((*_COLUMNS, *optional, *asked)))


@dataclass(frozen=True)
class _UnitReading:
    """How every unit is read."""

    folder: Folder
    fingerprint: str
    columns: Sequence[str]
    choice: RecordChoice
    teacher: OtherTeacher | None

    def read(self, summary: ShardSummary) -> tuple[pa.Table, int]:
        """The rows of one unit that are records, and how many of its views failed."""
        unit, url = summary.unit, self.folder.url
        stored, rows = read_summary_and_index(self.folder, unit, self.columns)
        if stored != summary or summary.fingerprint != self.fingerprint:
            raise UserError(f"{url}: unit {unit} is not of this run: its index has another fingerprint or other counts")
        if len(rows) != summary.rows:
            raise UserError(f"{url}: the index of {unit} has {len(rows)} rows, not {summary.rows} as it says itself")
        if summary.tar_sha256:
            _check_tar(self.folder, summary)
        if self.teacher is not None:
            labels, rows = self.teacher.in_place(unit, rows)
            _check_tar(self.teacher.folder, labels)
        failed = pc.sum(pc.equal(rows["status"], "failed")).as_py() or 0
        return rows.filter(pa.array(self.choice.of(rows))), failed


def _check_tar(folder: Folder, summary: ShardSummary) -> None:
    name = shard_name(summary.unit)
    try:
        size = folder.size(name)
    except FileNotFoundError:
        raise UserError(f"{folder.url}/{name}: the shard is missing") from None
    if size != summary.tar_bytes:
        raise UserError(f"{folder.url}/{name}: has {size:,} bytes, not {summary.tar_bytes:,}: truncated or replaced")


def _span(rows: pa.Table, member: str) -> npt.NDArray[np.int64]:
    parts = (pc.fill_null(rows[f"{member}_{part}"], ABSENT).to_numpy() for part in ("offset", "length"))
    return np.stack(tuple(parts), axis=1)


def _inline(rows: pa.Table, widths: dict[str, int]) -> tuple[npt.NDArray[np.int32], dict[str, npt.NDArray[Any]]]:
    """Of codes-only sets the clean row alone, which comes first: their adversarial images are not there to be shown."""
    places = np.full(len(rows), ABSENT, dtype=np.int32)
    inline: dict[str, npt.NDArray[Any]] = {}
    for name in LOGITS:
        if name in rows.column_names:
            has = pc.is_valid(rows[name])
            places[has.to_numpy()] = np.arange(pc.sum(has).as_py() or 0, dtype=np.int32)
            cells = pc.list_flatten(pc.list_slice(rows[name].filter(has), 0, widths[name]))
            if len(cells) != widths[name] * (pc.sum(has).as_py() or 0) or cells.null_count:
                raise UserError(f"the column {name} of its indexes holds other than rows of {widths[name]} numbers")
            inline[name] = cells.to_numpy().reshape(-1, widths[name])
    return places, inline
