"""A look at the teacher before it labels a set: its accuracy on some of the set's own clean views."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dad_datasets.shard_reader import open_shard
from dad_pipeline.adversarial_views import to_pixels
from dad_pipeline.labelling.labelled_set import LabelledSet
from dad_pipeline.labelling.labelled_unit import rows_of, stacked
from dad_pipeline.labelling.plan import LabelPlan
from dad_pipeline.labelling.stored_canvases import canvas_batches
from dad_pipeline.models import precision, told_of_memory
from dad_pipeline.teacher_trial import UNITS_LOOKED_AT
from dad_pipeline.teachers.check import TeacherCheck, count_hits, teacher_check


def look_at_teacher(labelled: LabelledSet, plan: LabelPlan, pool: Executor) -> TeacherCheck | None:
    """Score about `check.samples` views, one of each image, from the beginnings of units spread over the set.

    None where none is asked for, or the set has none.
    """
    if not plan.recipe.check.samples:
        return None
    with told_of_memory(plan.recipe.compute.batch_size), torch.no_grad(), precision(plan.recipe.compute, plan.device):
        hits, total = count_hits(plan.teacher, _some_views(labelled, plan, pool))
    return teacher_check(hits, total, plan.teacher.num_classes) if total else None


def _some_views(
    labelled: LabelledSet, plan: LabelPlan, pool: Executor
) -> Iterator[tuple[Float[Tensor, "b 3 h w"], Int[Tensor, " b"]]]:
    recipe, units = plan.recipe, labelled.units
    spread = units[:: max(1, len(units) // UNITS_LOOKED_AT)][:UNITS_LOOKED_AT]
    share, size = -(-recipe.check.samples // max(1, len(spread))), recipe.compute.views_per_call
    for unit in spread:
        rows = rows_of(labelled, unit)
        places = [place for place, row in enumerate(rows) if row["view"] == 0 and row["status"] != "failed"][:share]
        batches = (places[start : start + size] for start in range(0, len(places), size))
        with open_shard(labelled.folder, unit.unit) as shard:
            for batch in canvas_batches(labelled, rows, batches, shard, pool):
                labels = torch.tensor([rows[place]["label"] for place in batch.places], device=plan.device)
                yield to_pixels(stacked(batch.clean), plan.device), labels
