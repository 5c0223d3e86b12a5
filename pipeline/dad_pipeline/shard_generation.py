"""One work unit, from clean images to a published shard and its index: the unit of retry and of resume."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import pyarrow as pa

from dad_datasets.folder import Folder
from dad_datasets.index import Row, ShardSummary, span_cells, write_index
from dad_datasets.layout import index_name, shard_name
from dad_datasets.lost_tars import remove_index
from dad_datasets.sources import WorkUnit
from dad_datasets.sources.sparing_reader import UnitReader
from dad_datasets.tar_writer import Span, TarWriter
from dad_pipeline.adversarial_views import AdversarialView, CleanScored, Unusable, attack_views, score_clean
from dad_pipeline.models import Models
from dad_pipeline.recipe import Recipe
from dad_pipeline.stored_views import EncodedView, encode_view, failed_row, schema_of
from dad_pipeline.view_batches import ViewBatch, ViewBatches

STAGES = ("decode", "models", "encode", "write")


@dataclass(frozen=True, kw_only=True)
class UnitReport:
    """What came of a unit. Seconds: `decode` is the time the models waited for input, `encode` summed over threads."""

    unit: str
    rows: int
    failed: int
    reasons: dict[str, int]
    failed_example: str
    """The most frequent reason and the first image that has it; empty where nothing failed."""
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
    source: UnitReader
    models: Models
    folder: Folder
    fingerprint: str
    pool: Executor
    model_lock: threading.Lock
    on_views: Callable[[int], None]
    """Called with the number of views that went through the models, as they do."""


def generate_unit(unit: WorkUnit, context: GenerationContext) -> UnitReport:
    """Make and publish one shard."""
    recipe, times = context.recipe, StageTimes()
    return publish_unit(
        unit.name,
        lambda tar: _rows(unit, context, tar, times),
        folder=context.folder,
        fingerprint=context.fingerprint,
        schema=schema_of(recipe),
        num_rows=unit.count * len(recipe.views.attacked),
        has_tar=recipe.store.image != "none",
        times=times,
    )


def publish_unit(
    unit: str,
    make_rows: Callable[[TarWriter | None], Iterator[tuple[int, Row]]],
    *,
    folder: Folder,
    fingerprint: str,
    schema: pa.Schema,
    num_rows: int,
    has_tar: bool,
    times: StageTimes,
) -> UnitReport:
    """Publish a tar, then its index, whose presence says that both are whole.

    `make_rows` writes members to the tar (None without one) and gives every row with its position.
    """
    rows: dict[int, Row] = {}
    if has_tar:
        remove_index(folder, unit)
    with folder.publish(shard_name(unit)) if has_tar else nullcontext() as stream:
        tar = TarWriter(stream) if stream is not None else None
        rows.update(make_rows(tar))
        tar_sha256 = tar.finish() if tar is not None else ""
    assert len(rows) == num_rows, "every input view has its row"
    ordered = [rows[position] for position in sorted(rows)]
    status = Counter(row["status"] for row in ordered)
    summary = ShardSummary(
        unit=unit,
        fingerprint=fingerprint,
        tar_sha256=tar_sha256,
        tar_bytes=tar.size_bytes if tar is not None else 0,
        rows=len(ordered),
        ok=status["ok"],
        clean_only=status["clean_only"],
        failed=status["failed"],
    )
    with times.measure("write"), folder.publish(index_name(unit)) as stream:
        write_index(stream, ordered, schema, summary)
    reasons = Counter(row["reason"] for row in ordered if row["status"] == "failed")
    return UnitReport(
        unit=unit,
        rows=len(ordered),
        failed=summary.failed,
        reasons=dict(reasons),
        failed_example=_example(ordered, reasons),
        tar_bytes=summary.tar_bytes,
        index_bytes=folder.size(index_name(unit)),
        seconds=times.seconds,
    )


def _example(rows: Sequence[Row], reasons: Counter[str]) -> str:
    if not reasons:
        return ""
    reason = reasons.most_common(1)[0][0]
    first = next(row["source_key"] for row in rows if row["status"] == "failed" and row["reason"] == reason)
    return f"{first}: {reason}"


def compute_batch(
    batch: ViewBatch, recipe: Recipe, models: Models, pool: Executor
) -> list[AdversarialView | CleanScored | Unusable]:
    """The model work of one batch."""
    if not batch.prepared:
        return []
    if not batch.attack:
        return [*score_clean(models, recipe, batch.prepared)]
    return [*attack_views(models, recipe, batch.prepared, score_vqgan=scores_vqgan(recipe, batch), pool=pool)]


def scores_vqgan(recipe: Recipe, batch: ViewBatch) -> bool:
    """Whether the teacher sees what the VQGAN alone makes of this batch's views, too."""
    return recipe.score_vqgan == "all" or (recipe.score_vqgan == "first_batch" and batch.first_of_unit)


def _rows(
    unit: WorkUnit, context: GenerationContext, tar: TarWriter | None, times: StageTimes
) -> Iterator[tuple[int, Row]]:
    """Every row of the unit with its position; one batch is encoded and written while the next is at the models."""
    recipe, pool, models = context.recipe, context.pool, context.models
    ahead = 2 * recipe.compute.views_per_call
    views = ViewBatches(unit, context.source, recipe, models.teacher.num_classes, pool=pool, ahead=ahead)
    batches = iter(views)
    encoding: list[Future[EncodedView]] = []
    while True:
        with times.measure("decode"):
            batch = next(batches, None)
        if batch is None:
            break
        with context.model_lock, times.measure("models"):
            results = compute_batch(batch, recipe, models, pool)
        context.on_views(batch.num_views)
        previous, encoding = encoding, [pool.submit(_encode, result, recipe, times) for result in results]
        yield from written_views(previous, tar, times)
    yield from written_views(encoding, tar, times)
    for failure in views.failed:
        yield failure.position, failed_row(failure.provenance, failure.view_index, failure.reason)


def _encode(result: AdversarialView | CleanScored | Unusable, recipe: Recipe, times: StageTimes) -> EncodedView:
    with times.measure("encode"):
        return encode_view(result, recipe)


def written_views(
    encoding: list[Future[EncodedView]], tar: TarWriter | None, times: StageTimes
) -> Iterator[tuple[int, Row]]:
    """Wait for each view and write its members; its row, with where they stand, and its position."""
    for future in encoding:
        encoded = future.result()
        spans: dict[str, Span] = {}
        if tar is not None and encoded.members:
            with times.measure("write"):
                spans = {ext: tar.add(f"{encoded.key}.{ext}", content) for ext, content in encoded.members.items()}
        yield encoded.position, encoded.row | span_cells(spans)
