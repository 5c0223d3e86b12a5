"""One unit of a codes-only set, decoded: a tar of images and its index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dad_datasets.folder import Folder
from dad_datasets.image_codec import ImageFormat, encode_canvas
from dad_datasets.index import Row, ShardSummary, record_row, view_in
from dad_datasets.record import Logits, Measurements, Provenance, Record, members_of, pixels_sha256
from dad_datasets.tar_writer import TarWriter
from dad_datasets.views import Canvas
from dad_pipeline.adversarial_views import to_canvases
from dad_pipeline.expansion.origin import Origin
from dad_pipeline.expansion.plan import ExpansionPlan
from dad_pipeline.expansion.stored_codes import StoredCodes, read_codes
from dad_pipeline.models import quantizer_precision, told_of_memory
from dad_pipeline.quantizer import Quantizer
from dad_pipeline.recipe import ComputeSettings, Recipe
from dad_pipeline.shard_generation import StageTimes, UnitReport, publish_unit, written_views
from dad_pipeline.stored_batches import stored_batches
from dad_pipeline.stored_views import EncodedView, schema_of


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """What every unit of a run shares. `pool` encodes images."""

    origin: Origin
    plan: ExpansionPlan
    folder: Folder
    quantizer: Quantizer
    device: torch.device
    pool: Executor


def expand_unit(unit: ShardSummary, expansion: Expansion, on_views: Callable[[int], None]) -> UnitReport:
    """Make and publish one unit. UserError where its codes cannot be read, or a batch does not fit the device."""
    plan, times = expansion.plan, StageTimes()
    side = plan.recipe.views.size // expansion.quantizer.factor
    with times.measure("decode"):
        stored = read_codes(expansion.origin, unit, side=side, num_codes=expansion.quantizer.num_codes)
    return publish_unit(
        unit.unit,
        lambda tar: _rows(stored, expansion, tar, times, on_views),
        folder=expansion.folder,
        fingerprint=plan.manifest.fingerprint,
        schema=schema_of(plan.recipe),
        num_rows=unit.rows,
        has_tar=True,
        times=times,
    )


@torch.no_grad()
def decode_codes(
    codes: npt.NDArray[np.uint16], quantizer: Quantizer, compute: ComputeSettings, device: torch.device
) -> npt.NDArray[np.uint8]:
    """The images of codes [b, h/f, w/f] as a reader of an image set gets them, uint8 [b, h, w, 3].

    UserError where the batch does not fit the device's memory.
    """
    with told_of_memory(compute.batch_size, option="--batch-size "), quantizer_precision(compute, device):
        pixels = quantizer.decode(torch.from_numpy(codes.astype(np.int64)).to(device))
    return to_canvases(pixels).transpose(0, 2, 3, 1)


def _rows(
    stored: StoredCodes,
    expansion: Expansion,
    tar: TarWriter | None,
    times: StageTimes,
    on_views: Callable[[int], None],
) -> Iterator[tuple[int, Row]]:
    """Every row with its place; one batch is encoded and written while the next is decoded."""
    rows, recipe, compute = stored.rows, expansion.plan.recipe, expansion.plan.compute
    encoding: list[Future[EncodedView]] = []
    for batch in stored_batches(rows, recipe.views.attacked, attack=True, batch_size=compute.views_per_call):
        codes = np.stack([stored.codes(place) for place in batch])
        with times.measure("models"):
            canvases = decode_codes(codes, expansion.quantizer, compute, expansion.device)
        decoded = [(place, canvas) for place, canvas in zip(batch, canvases, strict=True) if _is_record(rows[place])]
        previous, encoding = (
            encoding,
            [expansion.pool.submit(_encode, stored, place, canvas, recipe, times) for place, canvas in decoded],
        )
        yield from written_views(previous, tar, times)
        on_views(len(decoded))
    yield from written_views(encoding, tar, times)
    others = [place for place, row in enumerate(rows) if not _is_record(row)]
    for place in others:
        yield place, rows[place] | _inline(stored, place)
    on_views(len(others))


def _is_record(row: Row) -> bool:
    return bool(row["status"] == "ok")


def _inline(stored: StoredCodes, place: int) -> Row:
    """The logits of a clean-only view stand in the index of an image set, too."""
    return {name: stored.numbers(place, name) for name in stored.lists if name != "codes"}


def _encode(stored: StoredCodes, place: int, canvas: Canvas, recipe: Recipe, times: StageTimes) -> EncodedView:
    image_format = recipe.store.image
    assert image_format != "none"
    with times.measure("encode"):
        record = _record(stored, place, np.ascontiguousarray(canvas), recipe, image_format)
        members = members_of(record, image_format)
    return EncodedView(position=place, key=record.provenance.key, row=record_row(record), members=members)


def _record(stored: StoredCodes, place: int, canvas: Canvas, recipe: Recipe, image_format: ImageFormat) -> Record:
    row = stored.rows[place]
    return Record(
        provenance=Provenance(**_fields_in(row, Provenance)),
        view=view_in(row, size=recipe.views.size, resize=recipe.views.resize),
        canvas_sha256=row["canvas_sha256"],
        image=encode_canvas(canvas, image_format),
        image_sha256=pixels_sha256(canvas),
        codes=stored.codes(place),
        clean=None,
        logits=_logits(stored, place),
        measurements=Measurements(**_fields_in(row, Measurements)),
        teacher_vqgan_top1=row["teacher_vqgan_top1"],
    )


def _fields_in(row: Row, kind: type[Provenance] | type[Measurements]) -> dict[str, Any]:
    return {field.name: row[field.name] for field in fields(kind)}


def _logits(stored: StoredCodes, place: int) -> Logits:
    """Their two rows, which stand one after the other in the index."""

    def rows_of(column: str) -> npt.NDArray[Any] | None:
        numbers = stored.numbers(place, column)
        return None if numbers is None else numbers.reshape(2, -1)

    values = rows_of("teacher")
    assert values is not None, "an attacked view has logits"
    return Logits(values=values, ids=rows_of("teacher_ids"), rest=rows_of("teacher_rest"))
