"""Batches: the same samples in the same order for any number of processes, passes and workers, from any position."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from dad_datasets.errors import UserError
from dad_trainer.augment import Augmentation, AugmentSettings, Mixing
from dad_trainer.reading import Pairs, open_pairs
from dad_trainer.teacher_targets import TeacherTargets
from dad_trainer.training.batch import Batch, Collate
from dad_trainer.training.items import Item, Items
from dad_trainer.training.loading import BatchPlan, EpochBatches, epoch_loader
from dad_trainer.training.sets import require_alike
from dad_trainer.training.streams import ImagesName, Stream, streams_of

AUGMENT = AugmentSettings(crop_padding=2, flip=0.5, mixup=0.4)


@pytest.fixture(scope="module")
def pairs(make_set: Callable[[str], Path]) -> Pairs:
    return open_pairs(make_set("full"))


def streams(pairs: Pairs, images: ImagesName) -> list[Stream]:
    return streams_of([pairs], images, weights=[1.0], views=[1])


def load(pairs: Pairs, images: ImagesName, plan: BatchPlan, *, first: int = 0, workers: int = 0) -> list[Batch]:
    shown = streams(pairs, images)
    items = Items(shown, Augmentation(AUGMENT, 0), teacher=True)
    places = EpochBatches(plan, shown, seed=0, epoch=1, first=first)
    collate = Collate(augment=AUGMENT, seed=0, temperature=4.0)
    batches = list(epoch_loader(items, places, collate, workers=workers, device=torch.device("cpu")))
    assert not [batch for batch in batches if isinstance(batch, UserError)]
    return [batch for batch in batches if isinstance(batch, Batch)]


def first_images(batches: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.images[: len(batch.labels)] for batch in batches])


def test_processes_and_passes_cut_the_same_epoch(pairs: Pairs) -> None:
    whole = load(pairs, "pairs", BatchPlan(samples=8))
    assert [len(batch.labels) for batch in whole] == [8, 8, 8]
    for processes, accumulate in ((2, 1), (1, 2), (2, 2)):
        shares = [
            load(pairs, "pairs", BatchPlan(samples=8, process=rank, processes=processes, accumulate=accumulate))
            for rank in range(processes)
        ]
        # Global batch by global batch, process by process, pass by pass.
        pieces = [
            shares[rank][step * accumulate + part]
            for step in range(3)
            for rank in range(processes)
            for part in range(accumulate)
        ]
        assert torch.equal(first_images(pieces), first_images(whole))
        mixing = torch.cat([piece.mixing.lam for piece in pieces if piece.mixing])
        assert torch.equal(mixing, torch.cat([batch.mixing.lam for batch in whole if batch.mixing]))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_be_entered_anywhere(pairs: Pairs, workers: int) -> None:
    whole = load(pairs, "pairs", BatchPlan(samples=8))
    rest = load(pairs, "pairs", BatchPlan(samples=8), first=1, workers=workers)
    assert torch.equal(first_images(rest), first_images(whole[1:]))
    for one, other in zip(rest, whole[1:], strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.teacher[1].probabilities, other.teacher[1].probabilities)


def test_a_batch_holds_what_the_records_hold(pairs: Pairs) -> None:
    plain = AugmentSettings()
    shown = streams(pairs, "pairs")
    places = EpochBatches(BatchPlan(samples=8), shown, seed=0, epoch=0, first=0)
    items = Items(shown, Augmentation(plain, 0), teacher=True)
    batch = Collate(augment=plain, seed=0, temperature=4.0)([items[place] for place in next(iter(places))])
    assert isinstance(batch, Batch)
    assert batch.parts == 2
    assert not bool(batch.attacked.all()), "clean-only views are there too"
    for row, (_, _, record, _) in enumerate(next(iter(places))):
        sample = pairs[record]
        assert torch.equal(batch.images[row], cast(torch.Tensor, sample["clean"]))
        assert torch.equal(batch.images[8 + row], cast(torch.Tensor, sample["adversarial"]))
        assert bool(batch.attacked[row]) == sample["attacked"]
        assert int(batch.labels[row]) == sample["label"]
        for part in (0, 1):
            logits = cast(torch.Tensor, sample["teacher"])[part].double()
            expected = torch.exp(logits / 4) / torch.exp(logits / 4).sum()
            torch.testing.assert_close(batch.teacher[part].probabilities[row].double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("images", ["pairs", "unpaired"])
def test_samples_read_together_are_those_read_one_by_one(
    pairs: Pairs, images: ImagesName, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = streams(pairs, images)
    items = Items(shown, Augmentation(AUGMENT, 0), teacher=True)
    places = next(iter(EpochBatches(BatchPlan(samples=16), shown, seed=0, epoch=0, first=0)))
    assert {number for _, number, _, _ in places} == set(range(len(shown)))
    alone = [items[place] for place in places]
    for together in (64, 5):
        monkeypatch.setattr("dad_trainer.training.items.READ_TOGETHER", together)
        for one, other in zip(items.__getitems__(places), alone, strict=True):
            assert isinstance(one, Item)
            assert isinstance(other, Item)
            assert (one.key, one.label, one.attacked) == (other.key, other.label, other.attacked)
            assert torch.equal(one.images, other.images)
            for row, expected in zip(one.teacher, other.teacher, strict=True):
                np.testing.assert_array_equal(row.values, expected.values)


def test_a_batch_that_cannot_be_read_is_its_error(make_set: Callable[[str], Path], tmp_path: Path) -> None:
    copied = shutil.copytree(make_set("full"), tmp_path / "set")
    damaged = open_pairs(copied)
    (copied / "shards" / "tiny-00001.tar").unlink()
    shown = streams(damaged, "pairs")
    items = Items(shown, Augmentation(AUGMENT, 0), teacher=True)
    places = EpochBatches(BatchPlan(samples=24), shown, seed=0, epoch=0, first=0)
    collate = Collate(augment=AUGMENT, seed=0, temperature=4.0)
    (batch,) = epoch_loader(items, places, collate, workers=1, device=torch.device("cpu"))
    assert isinstance(batch, UserError)
    assert "tiny-00001.tar: the shard is missing" in str(batch)


def test_unpaired_images_are_samples_of_their_own(pairs: Pairs) -> None:
    clean, adversarial = streams(pairs, "unpaired")
    assert (clean.part, adversarial.part) == ("clean", "adversarial")
    assert clean.order.visits == adversarial.order.visits == 24
    assert len(adversarial.records) == int(pairs.attacked.sum()) < len(clean.records)
    batches = load(pairs, "unpaired", BatchPlan(samples=8))
    assert len(batches) == 6
    assert all(batch.parts == 1 for batch in batches)
    batch = load(pairs, "adversarial", BatchPlan(samples=24))[0]
    assert bool(batch.attacked.all())


def test_a_set_can_come_too_rarely(pairs: Pairs) -> None:
    with pytest.raises(UserError, match="less than one an epoch"):
        streams_of([pairs], "clean", weights=[0.01], views=[1])


def test_sets_that_do_not_fit_are_not_mixed(make_set: Callable[[str], Path], pairs: Pairs) -> None:
    require_alike([pairs, open_pairs(make_set("clean"))], logits=True)
    top_k = open_pairs(make_set("top_k"), temperature=4.0)
    with pytest.raises(UserError, match="stores the 2 largest logits of each view"):
        require_alike([pairs, top_k], logits=True)
    require_alike([pairs, top_k], logits=False)


def test_a_whole_batch_is_pinned_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a loader worker sent holds a file descriptor for each tensor until it is copied."""
    pinned: list[int] = []

    def pin(self: torch.Tensor) -> torch.Tensor:
        pinned.append(id(self))
        return self.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    targets = TeacherTargets(
        probabilities=torch.full((2, 2), 0.4), ids=torch.zeros(2, 2, dtype=torch.int64), rest=torch.full((2,), 0.2)
    )
    mixing = Mixing(
        partner=torch.tensor([1, 0]),
        lam=torch.ones(2),
        boxes=torch.zeros(2, 4, dtype=torch.int64),
        cut=torch.zeros(2, dtype=torch.bool),
    )
    batch = Batch(
        images=torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        labels=torch.tensor([0, 1]),
        attacked=torch.tensor([True, True]),
        teacher=(targets,),
        mixing=mixing,
    )
    parts = [*vars(targets).values(), *vars(mixing).values(), batch.images, batch.labels, batch.attacked]
    copy = batch.pin_memory()
    assert sorted(pinned) == sorted(map(id, parts))
    assert copy.teacher[0].rest is not None
    assert torch.equal(copy.teacher[0].rest, torch.full((2,), 0.2))
