"""The order is a function of (seed, epoch), visits evenly, and keeps shards together where asked."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dad_trainer.training.order import Ints, SetOrder, epoch_order, process_slice


def make_set(counts: list[int], *, weight: float = 1.0, views: int = 1, per_shard: int = 4, shift: int = 0) -> SetOrder:
    """A set whose image i has counts[i] records, the records in a scrambled order."""
    samples = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    samples = np.random.default_rng(shift).permutation(samples)
    shards = (np.arange(len(samples)) // per_shard).astype(np.int32)
    return SetOrder(samples=samples, shards=shards, weight=weight, views=views)


COUNTS = st.lists(st.integers(1, 4), min_size=1, max_size=20)
WEIGHTS = st.sampled_from([0.3, 0.5, 1.0, 1.7, 3.0])


@settings(deadline=None)
@given(counts=COUNTS, weight=WEIGHTS, views=st.integers(1, 3), epochs=st.integers(1, 7))
def test_images_and_their_views_are_visited_evenly(counts: list[int], weight: float, views: int, epochs: int) -> None:
    one = make_set(counts, weight=weight, views=views)
    seen: Counter[int] = Counter()
    for epoch in range(epochs):
        order = epoch_order([one], seed=3, epoch=epoch)
        assert len(order) == one.visits * views
        seen.update(order[:, 1].tolist())
    of_image: Counter[int] = Counter()
    for record in range(len(one.samples)):
        of_image[int(one.samples[record])] += seen[record]
    visits = [of_image[image] for image in range(len(counts))]
    assert max(visits) - min(visits) <= views
    for image in range(len(counts)):
        of_views = [seen[record] for record in np.flatnonzero(one.samples == image).tolist()]
        assert max(of_views) - min(of_views) <= 1


def test_with_weight_one_an_epoch_holds_every_image_once_and_shuffles_anew() -> None:
    one = make_set([1] * 50)
    first, second = (epoch_order([one], seed=0, epoch=epoch) for epoch in (0, 1))
    assert sorted(first[:, 1].tolist()) == sorted(second[:, 1].tolist()) == list(range(50))
    assert first.tolist() != second.tolist()
    assert first.tolist() != epoch_order([one], seed=1, epoch=0).tolist()
    assert first.tolist() == epoch_order([one], seed=0, epoch=0).tolist()


@given(counts=COUNTS, weight=WEIGHTS, views=st.integers(1, 3))
def test_repeats_tell_equal_records_of_an_epoch_apart(counts: list[int], weight: float, views: int) -> None:
    order = epoch_order([make_set(counts, weight=weight, views=views)], seed=1, epoch=2)
    places = [tuple(place) for place in order.tolist()]
    assert len(set(places)) == len(places)
    for record, visits in Counter(order[:, 1].tolist()).items():
        assert sorted(order[order[:, 1] == record, 2].tolist()) == list(range(visits))


def test_sets_are_mixed_by_their_weights() -> None:
    sets = [make_set([2] * 40, weight=0.5), make_set([1] * 30, weight=2.0, shift=1)]
    order = epoch_order(sets, seed=0, epoch=0)
    assert Counter(order[:, 0].tolist()) == {0: 20, 1: 60}
    # Mixed, not one after the other: each half of the epoch holds some of both.
    assert set(order[:20, 0].tolist()) == set(order[-20:, 0].tolist()) == {0, 1}


@pytest.mark.parametrize("block_shards", [1, 2, 3])
def test_blocks_hold_the_records_of_few_shards_together(block_shards: int) -> None:
    sets = [make_set([1] * 40, per_shard=5), make_set([1] * 40, per_shard=8, shift=1)]
    order = epoch_order(sets, seed=0, epoch=2, block_shards=block_shards)
    whole = epoch_order(sets, seed=0, epoch=2)
    assert sorted(map(tuple, order.tolist())) == sorted(map(tuple, whole.tolist()))
    shards = [(int(s), int(sets[s].shards[r])) for s, r, _ in order.tolist()]
    # A shard is finished before more than block_shards - 1 others have been begun beside it.
    most_open = max(
        len({shard for shard in set(shards[: at + 1]) if shard in set(shards[at:])}) for at in range(len(shards))
    )
    assert most_open <= block_shards
    if block_shards > 1:
        assert shards != sorted(shards, key=shards.index), "records of a block must be shuffled together"


@given(processes=st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_processes_share_a_batch_in_its_order(processes: int) -> None:
    batch: Ints = np.arange(36).reshape(12, 3)
    shares = [process_slice(batch, process=rank, processes=processes) for rank in range(processes)]
    assert np.concatenate(shares).tolist() == batch.tolist()
    assert len({len(share) for share in shares}) == 1
