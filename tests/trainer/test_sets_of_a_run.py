"""Two sets in one run: how often the images of each come, and in how many steps an epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tiny_training import train, training_recipe

from dad_datasets.errors import UserError
from dad_trainer.training.batch import Batch, Collate
from dad_trainer.training.items import Item


def test_each_set_comes_by_its_own_weight_and_views(
    make_set: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: dict[int, list[str]] = {0: [], 1: []}
    collated = Collate.__call__

    def noted(self: Collate, items: Sequence[Item | UserError]) -> Batch | UserError:
        for item in items:
            assert isinstance(item, Item)
            keys[item.epoch].append(item.key)
        return collated(self, items)

    monkeypatch.setattr(Collate, "__call__", noted)
    sets = [
        {"path": str(make_set("full")), "weight": 0.5},
        {"path": str(make_set("clean")), "weight": 2.0, "views": 2, "where": "view < 2"},
    ]
    raw = training_recipe(make_set("full")) | {"shards": sets, "loss": {"name": "ce"}, "augment": {}}
    _, seen = train(raw, tmp_path)
    # Half of 24 images once; 24 images twice, two views each time.
    assert "108 samples and 9 steps an epoch, 18 steps of 12 images" in seen
    for of_epoch in keys.values():
        assert len(of_epoch) == 108
        first, second = ([key for key in of_epoch if key.startswith(number)] for number in ("0/", "1/"))
        assert (len(first), len(second)) == (12, 96)
        # Both views of each image, once at each of its two visits.
        assert set(Counter(second).values()) == {2}
        assert len(set(second)) == 48
    # The other half of the first set's images comes in the second epoch.
    halves = [{key.rpartition("-")[0] for key in keys[epoch] if key.startswith("0/")} for epoch in (0, 1)]
    assert len(halves[0]) == len(halves[1]) == 12
    assert not halves[0] & halves[1]
