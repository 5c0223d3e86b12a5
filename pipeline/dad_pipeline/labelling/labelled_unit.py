"""One unit of a set, labelled: a tar of logits and its index, a row to each row of the set's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index import IDENTITY_COLUMNS, Row, ShardSummary, inline_logits, read_index, read_summary, span_cells
from dad_datasets.labels import labels_schema
from dad_datasets.record import Logits, npy_bytes
from dad_datasets.shard_reader import open_shard
from dad_datasets.tar_writer import TarWriter
from dad_datasets.views import Canvas
from dad_pipeline.adversarial_views import Unusable, to_pixels
from dad_pipeline.labelling.labelled_set import LabelledSet
from dad_pipeline.labelling.recipe import LabelRecipe
from dad_pipeline.labelling.stored_canvases import CanvasBatch, canvas_batches
from dad_pipeline.models import precision
from dad_pipeline.shard_generation import StageTimes, UnitReport, publish_unit
from dad_pipeline.stored_batches import stored_batches
from dad_pipeline.stored_views import compress_for
from dad_pipeline.teachers import Teacher


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """What every unit of a run shares. `recipe` is resolved; `pool` reads and decodes images."""

    labelled: LabelledSet
    recipe: LabelRecipe
    teacher: Teacher
    device: torch.device
    folder: Folder
    fingerprint: str
    pool: Executor


def label_unit(unit: ShardSummary, labelling: Labelling, on_views: Callable[[int], None]) -> UnitReport:
    """Make and publish the labels of one unit. UserError where its images are not what they were."""
    labelled, times = labelling.labelled, StageTimes()
    rows = rows_of(labelled, unit)
    return publish_unit(
        unit.unit,
        lambda tar: _labelled(rows, unit.unit, labelling, tar, times, on_views),
        folder=labelling.folder,
        fingerprint=labelling.fingerprint,
        schema=schema_of_labels(labelling.recipe, labelled),
        num_rows=unit.rows,
        has_tar=True,
        times=times,
    )


def rows_of(labelled: LabelledSet, unit: ShardSummary) -> list[Row]:
    """The set's own rows, without logits. UserError where the index is of another run."""
    table = read_index(labelled.folder, unit.unit)
    if read_summary(labelled.folder, unit.unit) != unit or len(table) != unit.rows:
        raise UserError(f"{labelled.folder.url}: the index of {unit.unit} is not the one in the table of shards")
    lists = [field.name for field in table.schema if pa.types.is_list(field.type)]
    rows: list[Row] = table.drop_columns(lists).to_pylist()
    return rows


def schema_of_labels(recipe: LabelRecipe, labelled: LabelledSet) -> pa.Schema:
    """The index's columns: members of attacked views, and inline logits where there are clean-only ones."""
    top_k = recipe.logits != "full"
    inline: dict[str, pa.DataType] = {}
    if not all(labelled.views.attacked):
        inline["teacher"] = pa.list_(pa.float16())
        if top_k:
            inline |= {"teacher_ids": pa.list_(pa.uint16()), "teacher_rest": pa.list_(pa.float32())}
    members = ("teacher.npy", "teacher_ids.npy", "teacher_rest.npy") if top_k else ("teacher.npy",)
    return labels_schema(members, inline)


def stacked(canvases: list[Canvas]) -> npt.NDArray[np.uint8]:
    """uint8 [b, 3, h, w] of canvases."""
    return np.stack(canvases).transpose(0, 3, 1, 2)


def _labelled(
    rows: list[Row],
    unit: str,
    labelling: Labelling,
    tar: TarWriter | None,
    times: StageTimes,
    on_views: Callable[[int], None],
) -> Iterator[tuple[int, Row]]:
    """A row for each of `rows`, with its place; failed ones keep theirs."""
    assert tar is not None
    labelled, size = labelling.labelled, labelling.recipe.compute.views_per_call
    with open_shard(labelled.folder, unit) as shard:
        for attack in (True, False):
            batches = stored_batches(rows, labelled.views.attacked, attack=attack, batch_size=size)
            usable = (kept for batch in batches if (kept := [p for p in batch if rows[p]["status"] != "failed"]))
            reading = canvas_batches(labelled, rows, usable, shard, labelling.pool)
            while True:
                with times.measure("decode"):
                    batch = next(reading, None)
                if batch is None:
                    break
                with times.measure("models"):
                    logits = _score_batch(batch, labelling)
                with times.measure("write"):
                    written = _write(batch, logits, rows, labelling.recipe, tar)
                yield from written
                on_views(len(batch.places))
    failed = [place for place, row in enumerate(rows) if row["status"] == "failed"]
    for place in failed:
        yield place, _identity(rows[place])
    on_views(len(failed))


@torch.no_grad()
def _score_batch(batch: CanvasBatch, labelling: Labelling) -> Float[Tensor, "b n c"]:
    """Logits of the clean canvases, and of the adversarial ones where there are any: n = 2 or 1."""
    shown = [batch.clean, batch.adversarial] if batch.adversarial else [batch.clean]
    with precision(labelling.recipe.compute, labelling.device):
        scored = [labelling.teacher(to_pixels(stacked(canvases), labelling.device)).float() for canvases in shown]
    return torch.stack(scored, dim=1)


def _write(
    batch: CanvasBatch, logits: Float[Tensor, "b n c"], rows: list[Row], recipe: LabelRecipe, tar: TarWriter
) -> list[tuple[int, Row]]:
    """Write the members of a batch; its rows with their places."""
    finite = logits.isfinite().all(dim=2).all(dim=1).tolist()
    confidences, classes = (values.tolist() for values in logits.softmax(dim=2).max(dim=2))
    numbers = logits.cpu().numpy()
    written: list[tuple[int, Row]] = []
    for i, place in enumerate(batch.places):
        row = _identity(rows[place])
        if not finite[i]:
            written.append((place, row | {"status": "failed", "reason": Unusable.reason}))
            continue
        for column, top1, confidence in zip(("clean", "adv"), classes[i], confidences[i], strict=False):
            row |= {f"teacher_{column}_top1": top1, f"teacher_{column}_confidence": confidence}
        kept = compress_for(numbers[i], recipe.logits)
        if row["status"] == "ok":
            members = {ext: npy_bytes(array) for ext, array in _arrays(kept).items()}
            cells = span_cells({ext: tar.add(f"{row['key']}.{ext}", content) for ext, content in members.items()})
        else:
            cells = inline_logits(kept)
        written.append((place, row | cells))
    return written


def _arrays(logits: Logits) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {"teacher.npy": logits.values}
    if logits.ids is not None and logits.rest is not None:
        arrays |= {"teacher_ids.npy": logits.ids, "teacher_rest.npy": logits.rest}
    return arrays


def _identity(row: Row) -> Row:
    return {name: row[name] for name, _ in IDENTITY_COLUMNS}
