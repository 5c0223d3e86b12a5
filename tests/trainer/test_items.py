"""Samples as they come to a batch: the images and teacher's rows of the tars, augmented by draws of their own names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pairs_by_hand import images_and_rows

from dad_trainer.augment import Augmentation, AugmentSettings, draw_mixing
from dad_trainer.reading import Pairs, open_pairs
from dad_trainer.training.batch import Batch, Collate
from dad_trainer.training.items import Item, ItemPlace, Items
from dad_trainer.training.streams import ImagesName, streams_of

AUGMENT = AugmentSettings(crop_padding=2, flip=0.5, erasing=1.0)

Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float16]


@pytest.fixture(scope="module")
def pairs(make_set: Callable[[str], Path]) -> Pairs:
    return open_pairs(make_set("full"))


@pytest.fixture(scope="module")
def by_hand(make_set: Callable[[str], Path], clean_folder: Path) -> dict[str, tuple[Images, Rows]]:
    return images_and_rows(make_set("full"), clean_folder)


def items_of(pairs: Pairs, images: ImagesName, augment: AugmentSettings, seed: int = 0) -> Items:
    streams = streams_of([pairs], images, weights=[1.0], views=[1])
    return Items(streams, Augmentation(augment, seed), teacher=True)


def item_at(items: Items, place: ItemPlace) -> Item:
    item = items[place]
    assert isinstance(item, Item)
    return item


def canvases(item: Item) -> Images:
    return item.images.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    ("images", "stream", "parts"),
    [
        ("clean", 0, [0]),
        ("adversarial", 0, [1]),
        ("pairs", 0, [0, 1]),
        ("unpaired", 0, [0]),
        ("unpaired", 1, [1]),
    ],
)
def test_a_sample_is_an_image_with_the_teachers_row_on_that_image(
    pairs: Pairs,
    by_hand: dict[str, tuple[Images, Rows]],
    images: ImagesName,
    stream: int,
    parts: list[int],
) -> None:
    items = items_of(pairs, images, AugmentSettings())
    records = int(pairs.attacked.sum()) if parts == [1] else len(pairs)
    seen = set()
    for record in range(records):
        item = item_at(items, (0, stream, record, 0))
        number, _, key = item.key.partition("/")
        shown, rows = by_hand[key]
        assert number == str(stream)
        np.testing.assert_array_equal(canvases(item), shown[parts])
        np.testing.assert_array_equal([row.values for row in item.teacher], rows[parts])
        seen.add(key)
    assert len(seen) == records


def test_an_items_draws_are_those_of_its_epoch_name_and_view(pairs: Pairs) -> None:
    items, augmentation = items_of(pairs, "pairs", AUGMENT, seed=3), Augmentation(AUGMENT, 3)
    views, outcomes = set(), set()
    for record in range(0, len(pairs), 5):
        pair = pairs.read(record)
        assert pair.clean is not None
        views.add(pair.view)
        for epoch in (0, 1):
            for repeat, name in ((0, f"0/{pair.source_key}"), (1, f"0/{pair.source_key} again 1")):
                item = item_at(items, (epoch, 0, record, repeat))
                # Each image by a call of its own.
                alone = [
                    augmentation([canvas], epoch=epoch, key=name, view=pair.view)[0]
                    for canvas in (pair.clean, pair.clean if pair.adversarial is None else pair.adversarial)
                ]
                np.testing.assert_array_equal(canvases(item), alone)
                outcomes.add((record, item.images[0].numpy().tobytes()))
    assert views == {0, 1, 2}
    assert len(outcomes) == 4 * len(range(0, len(pairs), 5)), "every epoch and every repeat has its own draws"


def test_the_streams_of_a_run_draw_apart(pairs: Pairs) -> None:
    streams = streams_of([pairs, pairs], "clean", weights=[1.0, 1.0], views=[1, 1])
    items, augmentation = Items(streams, Augmentation(AUGMENT, 0), teacher=False), Augmentation(AUGMENT, 0)
    pair = pairs.read(7)
    assert pair.clean is not None
    for stream in (0, 1):
        (expected,) = augmentation([pair.clean], epoch=0, key=f"{stream}/{pair.source_key}", view=pair.view)
        item = item_at(items, (0, stream, 7, 0))
        np.testing.assert_array_equal(canvases(item)[0], expected)
        assert item.teacher == ()


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_batch_mixes_by_its_seed_epoch_and_keys(pairs: Pairs, epoch: int) -> None:
    augment = AugmentSettings(mixup=0.8, cutmix=1.0)
    items = items_of(pairs, "pairs", augment)
    samples: list[Any] = [items[epoch, 0, record, 0] for record in (5, 40, 11, 60)]
    batch = Collate(augment=augment, seed=9, temperature=4.0)(samples)
    assert isinstance(batch, Batch)
    assert batch.mixing is not None
    keys = [f"0/{pairs.read(record, teacher=False).key}" for record in (5, 40, 11, 60)]
    expected = draw_mixing(augment, seed=9, epoch=epoch, keys=keys, size=16)
    assert expected is not None
    for name in ("partner", "lam", "boxes", "cut"):
        assert torch.equal(getattr(batch.mixing, name), getattr(expected, name))
