"""What a run will take, told before it: images, model work, disk and time, from a trial on a few of its own views."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.table import Table

from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.tar_writer import TarWriter
from dad_pipeline.flop_count import FlopCount
from dad_pipeline.models import Models, told_of_memory
from dad_pipeline.planning import Plan, plan_run
from dad_pipeline.recipe import Recipe
from dad_pipeline.shard_generation import compute_batch
from dad_pipeline.stored_views import EncodedView, encode_view
from dad_pipeline.view_batches import ViewBatch, ViewBatches

CPU_TRIAL = 4
"""Views of the trial on a CPU, where larger batches hardly run faster; on a GPU, or compiled, it is one batch."""

INDEX_BYTES = 170
"""Bytes of an index row without arrays, measured over shards of 1,000 rows: 150 of CIFAR-10's, 184 of the demo's."""


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """Sizes are in bytes a view. `flops_per_view` counts a multiplication and an addition as two operations."""

    num_images: int
    num_units: int
    num_views: int
    num_attacked: int
    flops_per_view: int
    tar_bytes_per_view: float
    index_bytes_per_view: float
    trial_views: int
    views_per_s: float
    rate_is_measured: bool

    @property
    def total_bytes(self) -> float:
        return self.num_attacked * self.tar_bytes_per_view + self.num_views * self.index_bytes_per_view

    @property
    def total_s(self) -> float:
        """Seconds of model work with one worker at that rate; clean-only views, scored alone, are left out."""
        return self.num_attacked / self.views_per_s

    def rows(self) -> list[tuple[str, str]]:
        """The estimate as a person reads it."""
        views = f"{self.num_views:,} in {self.num_units:,} units"
        if self.num_attacked < self.num_views:
            views += f", {self.num_attacked:,} of them attacked"
        per_view = self.tar_bytes_per_view + self.index_bytes_per_view
        origin = f"measured here on {self.trial_views} views" if self.rate_is_measured else "as given"
        return [
            ("clean images", f"{self.num_images:,}"),
            ("views", views),
            ("model work a view, counted", f"{self.flops_per_view / 1e9:,.1f} GFLOP"),
            ("model work in all", f"{self.num_attacked * self.flops_per_view / 1e15:,.2f} PFLOP"),
            (f"bytes a view, of {self.trial_views}", f"{per_view:,.0f}"),
            ("disk", size_text(self.total_bytes)),
            (f"views/s, {origin}", f"{self.views_per_s:,.1f}"),
            ("time with one worker", duration_text(self.total_s)),
        ]


def print_estimate(recipe: Recipe, out: str, *, views_per_s: float | None, console: Console) -> None:
    """Check the run as its start would, and print what it will take. UserError for every mistake in the recipe."""
    plan, models = plan_run(recipe, open_folder(out))
    with told_of_memory(plan.recipe.compute.batch_size):
        estimate = estimate_run(plan, models, views_per_s=views_per_s)
    table = Table(title=f"plan of {out}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in estimate.rows():
        table.add_row(name, value)
    console.print(table)


def estimate_run(plan: Plan, models: Models, *, views_per_s: float | None = None) -> RunEstimate:
    """Attack a few views of the first unit as the run would, writing nothing; `views_per_s` goes before the measured.

    UserError where that unit has no usable view.
    """
    recipe = plan.recipe
    num_images = plan.units.num_samples
    with ThreadPoolExecutor(max_workers=2) as pool:
        batch = _first_batch(plan, models, pool)
        full = models.device.type == "cuda" or recipe.compute.compile
        size = recipe.compute.views_per_call if full else CPU_TRIAL
        trial = replace(batch, prepared=batch.prepared[:size], first_of_unit=False)
        one = replace(trial, prepared=trial.prepared[:1])
        counter = FlopCount()
        with counter:
            compute_batch(one, recipe, models, pool)
        if full:
            compute_batch(trial, recipe, models, pool)  # the first of a size chooses kernels, or compiles them
        started = time.perf_counter()
        results = compute_batch(trial, recipe, models, pool)
        seconds = time.perf_counter() - started
        encoded = [encode_view(result, recipe) for result in results]
    return RunEstimate(
        num_images=num_images,
        num_units=len(plan.units),
        num_views=plan.num_views,
        num_attacked=num_images * sum(recipe.views.attacked),
        flops_per_view=counter.total,
        tar_bytes_per_view=_tar_bytes(encoded),
        index_bytes_per_view=INDEX_BYTES + _array_bytes(encoded),
        trial_views=len(encoded),
        views_per_s=views_per_s or len(encoded) / seconds,
        rate_is_measured=views_per_s is None,
    )


def _first_batch(plan: Plan, models: Models, pool: Executor) -> ViewBatch:
    recipe = plan.recipe
    batches = ViewBatches(plan.units[0], plan.source, recipe, models.teacher.num_classes, pool=pool, ahead=1)
    for batch in batches:
        if batch.attack and batch.prepared:
            return batch
    raise UserError(f"unit {plan.units[0].name}: no view in it can be attacked, so nothing can be estimated from it")


def _tar_bytes(encoded: Sequence[EncodedView]) -> float:
    """Mean bytes of a view's members, with their headers and padding; 0 where the set has no tars."""
    tar = TarWriter(io.BytesIO())
    for view in encoded:
        for extension, content in view.members.items():
            tar.add(f"{view.key}.{extension}", content)
    return tar.size_bytes / len(encoded)


def _array_bytes(encoded: Sequence[EncodedView]) -> float:
    """Mean bytes of the codes and logits that stand in the rows."""
    arrays = [np.asarray(value) for view in encoded for value in view.row.values() if isinstance(value, np.ndarray)]
    return sum(array.nbytes for array in arrays) / len(encoded)


def size_text(size: float) -> str:
    """In decimal units, as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def duration_text(seconds: float) -> str:
    """The two largest units."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days:,} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {int(seconds % 60)} s"
