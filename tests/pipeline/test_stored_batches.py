"""The batches of stored rows against those in which a run's views really went to the models."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import RawRecipe, write_images

from dad_datasets.sources import open_source
from dad_pipeline.adversarial_views import Unusable
from dad_pipeline.recipe import Recipe
from dad_pipeline.stored_batches import stored_batches
from dad_pipeline.view_batches import ViewBatches


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
def test_they_are_the_batches_of_the_run(recipe: RawRecipe, tmp_path: Path, batch_size: int) -> None:
    """With two images that fail before the models, and one view on which the models give nothing."""
    images = write_images(tmp_path / "tiny")
    for name in ("class0/2.png", "class1/5.png"):
        (images / name).write_bytes(b"no image")
    recipe["source"]["path"] = str(images)
    recipe["views"]["draw"] += [{"kind": "pad_crop", "attack": False}]
    recipe["compute"]["batch_size"] = batch_size
    settings = Recipe.model_validate(recipe)
    source = open_source(settings.source)
    for unit in source.plan(10):
        with ThreadPoolExecutor(1) as pool:
            views = ViewBatches(unit, source, settings, 3, pool=pool, ahead=8)
            batches = [(b.attack, [view.position for view in b.prepared]) for b in views if b.prepared]
        rows: list[dict[str, Any]] = [
            {"view": place % 3, "status": "ok" if place % 3 < 2 else "clean_only", "reason": ""}
            for place in range(unit.count * 3)
        ]
        for failure in views.failed:
            rows[failure.position] |= {"status": "failed", "reason": failure.reason}
        rows[0] |= {"status": "failed", "reason": Unusable.reason}
        for attack in (True, False):
            stored = stored_batches(rows, settings.views.attacked, attack=attack, batch_size=batch_size)
            assert list(stored) == [positions for kind, positions in batches if kind == attack]


@given(st.lists(st.booleans(), min_size=1, max_size=4), st.integers(0, 40), st.integers(1, 50))
def test_every_view_is_in_one_batch(attacked: list[bool], num_images: int, batch_size: int) -> None:
    rows = [{"view": view, "status": "ok", "reason": ""} for _ in range(num_images) for view in range(len(attacked))]
    batches = [
        batch
        for attack in (True, False)
        for batch in stored_batches(rows, attacked, attack=attack, batch_size=batch_size)
    ]
    assert sorted(place for batch in batches for place in batch) == list(range(len(rows)))
    assert all(0 < len(batch) <= batch_size for batch in batches)
