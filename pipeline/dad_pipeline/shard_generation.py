"""One work unit, from clean images to a published shard and its index: the unit of retry and of resume."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dad_datasets.folder import Folder
from dad_datasets.image_codec import encode_canvas
from dad_datasets.index import (
    Row,
    ShardSummary,
    index_schema,
    inline_logits,
    record_row,
    span_cells,
    view_cells,
    write_index,
)
from dad_datasets.layout import index_name, shard_name
from dad_datasets.record import Logits, Provenance, Record, compress_logits, members_of, pixels_sha256
from dad_datasets.sources import CleanSource, WorkUnit
from dad_datasets.tar_writer import Span, TarWriter
from dad_pipeline.adversarial_views import AdversarialView, CleanScored, Unusable, attack_views, score_clean
from dad_pipeline.models import Models
from dad_pipeline.recipe import Recipe
from dad_pipeline.view_batches import ViewBatch, ViewBatches

STAGES = ("decode", "models", "encode", "write")


@dataclass(frozen=True, kw_only=True)
class UnitReport:
    """What came of a unit. Seconds: `decode` is the time the models waited for input, `encode` summed over threads."""

    unit: str
    rows: int
    failed: int
    reasons: dict[str, int]
    tar_bytes: int
    index_bytes: int
    seconds: dict[str, float]


@dataclass(kw_only=True)
class StageTimes:
    """Seconds by stage, added up by several threads."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[stage] += time.perf_counter() - started


@dataclass(frozen=True, kw_only=True)
class GenerationContext:
    """What every unit of a worker shares. `model_lock` lets two units overlap: one at the models, one around them."""

    recipe: Recipe
    source: CleanSource
    models: Models
    folder: Folder
    fingerprint: str
    pool: Executor
    model_lock: threading.Lock
    on_views: Callable[[int], None]
    """Called with the number of views that went through the models, as they do."""


def member_extensions(recipe: Recipe) -> tuple[str, ...]:
    """The members that each record of a recipe has in its tar, in order; none where only codes are stored."""
    store = recipe.store
    if store.image == "none":
        return ()
    top_k = () if store.logits == "full" else ("teacher_ids.npy", "teacher_rest.npy")
    codes = ("codes.npy",) if store.codes else ()
    clean = ("clean.webp",) if store.clean else ()
    return (store.image, "cls", "teacher.npy", *top_k, *codes, *clean, "json")


def schema_of(recipe: Recipe) -> pa.Schema:
    """The index's columns: logits (and codes) stand in it where no tar member holds them."""
    inline: dict[str, pa.DataType] = {}
    if recipe.store.image == "none" or not all(recipe.views.attacked):
        inline["teacher"] = pa.list_(pa.float16())
        if recipe.store.logits != "full":
            inline |= {"teacher_ids": pa.list_(pa.uint16()), "teacher_rest": pa.list_(pa.float32())}
    if recipe.store.image == "none":
        inline["codes"] = pa.list_(pa.uint16())
    return index_schema(member_extensions(recipe), inline)


def generate_unit(unit: WorkUnit, context: GenerationContext) -> UnitReport:
    """Make and publish one shard: tar first, then the index, whose presence says that both are whole."""
    times = StageTimes()
    rows: dict[int, Row] = {}
    folder, recipe = context.folder, context.recipe
    has_tar = recipe.store.image != "none"
    with folder.publish(shard_name(unit.name)) if has_tar else nullcontext() as stream:
        tar = TarWriter(stream) if stream is not None else None
        rows.update(_rows(unit, context, tar, times))
        tar_sha256 = tar.finish() if tar is not None else ""
    ordered = [rows[position] for position in sorted(rows)]
    status = Counter(row["status"] for row in ordered)
    summary = ShardSummary(
        unit=unit.name,
        fingerprint=context.fingerprint,
        tar_sha256=tar_sha256,
        tar_bytes=tar.size_bytes if tar is not None else 0,
        rows=len(ordered),
        ok=status["ok"],
        clean_only=status["clean_only"],
        failed=status["failed"],
    )
    with times.measure("write"), folder.publish(index_name(unit.name)) as stream:
        write_index(stream, ordered, schema_of(recipe), summary)
    return UnitReport(
        unit=unit.name,
        rows=len(ordered),
        failed=summary.failed,
        reasons=dict(Counter(row["reason"] for row in ordered if row["status"] == "failed")),
        tar_bytes=summary.tar_bytes,
        index_bytes=folder.size(index_name(unit.name)),
        seconds=times.seconds,
    )


def compute_batch(
    batch: ViewBatch, recipe: Recipe, models: Models, pool: Executor
) -> list[AdversarialView | CleanScored | Unusable]:
    """The model work of one batch."""
    if not batch.prepared:
        return []
    if not batch.attack:
        return [*score_clean(models, recipe, batch.prepared)]
    score_vqgan = recipe.score_vqgan == "all" or (recipe.score_vqgan == "first_batch" and batch.first_of_unit)
    return [*attack_views(models, recipe, batch.prepared, score_vqgan=score_vqgan, pool=pool)]


def _rows(
    unit: WorkUnit, context: GenerationContext, tar: TarWriter | None, times: StageTimes
) -> Iterator[tuple[int, Row]]:
    """Every row of the unit with its position; one batch is encoded and written while the next is at the models."""
    recipe, pool, models = context.recipe, context.pool, context.models
    ahead = 2 * recipe.compute.batch_size
    views = ViewBatches(unit, context.source, recipe, models.teacher.num_classes, pool=pool, ahead=ahead)
    batches = iter(views)
    encoding: list[Future[_Encoded]] = []
    while True:
        with times.measure("decode"):
            batch = next(batches, None)
        if batch is None:
            break
        with context.model_lock, times.measure("models"):
            results = compute_batch(batch, recipe, models, pool)
        context.on_views(len(batch.prepared))
        previous, encoding = encoding, [pool.submit(_encode, result, recipe, times) for result in results]
        yield from _written(previous, tar, times)
    yield from _written(encoding, tar, times)
    for failure in views.failed:
        yield failure.position, _failed_row(failure.provenance, failure.view_index, failure.reason)


@dataclass(frozen=True, kw_only=True)
class _Encoded:
    """A view as it will be written: its row, and its members by extension (none for failed and clean-only views)."""

    position: int
    key: str
    row: Row
    members: dict[str, bytes]


def _encode(result: AdversarialView | CleanScored | Unusable, recipe: Recipe, times: StageTimes) -> _Encoded:
    with times.measure("encode"):
        members: dict[str, bytes] = {}
        source = result.source
        if isinstance(result, AdversarialView):
            record = _record(result, recipe)
            row = record_row(record)
            if recipe.store.image == "none":
                assert record.codes is not None
                row |= inline_logits(record.logits) | {"codes": record.codes.ravel()}
            else:
                members = members_of(record, recipe.store.image)
        elif isinstance(result, CleanScored):
            row = _clean_only_row(result, recipe)
        else:
            row = _failed_row(source.provenance, source.view.index, result.reason)
        return _Encoded(position=source.position, key=source.provenance.key, row=row, members=members)


def _written(encoding: list[Future[_Encoded]], tar: TarWriter | None, times: StageTimes) -> Iterator[tuple[int, Row]]:
    for future in encoding:
        encoded = future.result()
        spans: dict[str, Span] = {}
        if tar is not None and encoded.members:
            with times.measure("write"):
                spans = {ext: tar.add(f"{encoded.key}.{ext}", content) for ext, content in encoded.members.items()}
        yield encoded.position, encoded.row | span_cells(spans)


def _record(view: AdversarialView, recipe: Recipe) -> Record:
    store = recipe.store
    image = view.encoded
    if image is None and store.image != "none":
        image = encode_canvas(view.canvas, store.image)
    return Record(
        provenance=view.source.provenance,
        view=view.source.view,
        canvas_sha256=view.source.canvas_sha256,
        image=image,
        image_sha256=pixels_sha256(view.canvas),
        codes=view.codes if store.codes else None,
        clean=encode_canvas(view.source.canvas, "webp") if store.clean else None,
        logits=compress_for(view.logits, recipe),
        measurements=view.measurements(),
        teacher_vqgan_top1=view.teacher_vqgan_top1,
    )


def compress_for(logits: npt.NDArray[np.float32], recipe: Recipe) -> Logits:
    """Logits [n, C] in the form that the recipe stores."""
    kept = recipe.store.logits
    if kept == "full":
        return compress_logits(logits, top_k=None, temperatures=())
    return compress_logits(logits, top_k=kept.top_k, temperatures=kept.temperatures)


def _clean_only_row(scored: CleanScored, recipe: Recipe) -> Row:
    logits, source = scored.logits[0].astype(np.float64), scored.source
    return {
        **asdict(source.provenance),
        **view_cells(source.view),
        **inline_logits(compress_for(scored.logits, recipe)),
        "status": "clean_only",
        "reason": "",
        "canvas_sha256": source.canvas_sha256,
        "teacher_clean_top1": int(logits.argmax()),
        "teacher_clean_confidence": float(1 / np.exp(logits - logits.max()).sum()),
    }


def _failed_row(provenance: Provenance, view_index: int, reason: str) -> Row:
    return {**asdict(provenance), "view": view_index, "status": "failed", "reason": reason}
