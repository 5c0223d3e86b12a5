"""Which record comes when: pure integer maths, a function of (seed, epoch) alone.

Nothing here knows of workers, processes or files, so none of them can change the order, and any position in it can be
resumed at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from dad_datasets.seeding import generator_for

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SetOrder:
    """What the order must know of one set of n records."""

    samples: npt.NDArray[np.int32]
    """Number of each record's clean image, from 0 without gaps: [n]."""
    shards: npt.NDArray[np.int32]
    """Number of the shard that holds the record: [n]."""
    weight: float = 1.0
    """Visits to each clean image in an epoch; 0.5: every second image, the others in the next epoch."""
    views: int = 1
    """Records taken at a visit, each image's own records in turn."""

    @property
    def visits(self) -> int:
        """Visits in an epoch, of all clean images together."""
        return round(Fraction(self.weight) * self._num_samples)

    @property
    def _num_samples(self) -> int:
        return int(self.samples.max()) + 1

    def records(self, *, seed: int, epoch: int, name: int) -> Ints:
        """The records of an epoch, [visits * views], not yet shuffled; `name` tells this set's draws from another's.

        All visits of all epochs are one sequence that runs through the images in a fixed random order again and again;
        an epoch is a stretch of it. So images are visited equally often, to within one, over any number of epochs, and
        so are the views of an image.
        """
        images = generator_for(seed, "images", name).permutation(self._num_samples)
        visit = np.arange(epoch * self.visits, (epoch + 1) * self.visits, dtype=np.int64)
        image = images[visit % self._num_samples]
        # An image's records in a random order that stays the same: sorted by image, then by a random number.
        tie = generator_for(seed, "views", name).permutation(len(self.samples))
        by_image = np.lexsort((tie, self.samples))
        first = np.searchsorted(self.samples[by_image], np.arange(self._num_samples))
        count = np.bincount(self.samples, minlength=self._num_samples)
        turn = (visit // self._num_samples)[:, None] * self.views + np.arange(self.views)
        return by_image[first[image][:, None] + turn % count[image][:, None]].ravel()


def epoch_order(sets: Sequence[SetOrder], *, seed: int, epoch: int, block_shards: int | None = None) -> Ints:
    """The epoch's records in the order in which they are trained on: [n, 3], columns (set, record, repeat).

    `repeat` counts the earlier visits of the epoch to the same record, which a weight above 1 brings.

    Without `block_shards` all are shuffled together. With it, shards are shuffled, taken so many at a time, and the
    records of these shuffled together: a reader that fetches whole shards then needs few of them at once.
    """
    records = [one.records(seed=seed, epoch=epoch, name=number) for number, one in enumerate(sets)]
    numbers = np.repeat(np.arange(len(sets)), [len(r) for r in records])
    order = np.stack([numbers, np.concatenate(records), np.concatenate([_repeats(r) for r in records])], axis=1)
    rng = generator_for(seed, "order", epoch)
    shuffled = order[rng.permutation(len(order))]
    if block_shards is None:
        return shuffled
    starts = np.cumsum([0, *(int(one.shards.max()) + 1 for one in sets)])
    shard = np.concatenate([one.shards[r] + start for one, r, start in zip(sets, records, starts[:-1], strict=True)])
    block = rng.permutation(int(starts[-1])) // block_shards
    position = np.lexsort((rng.permutation(len(order)), block[shard]))
    return order[position]


def _repeats(records: Ints) -> Ints:
    """For each place, how often its record stands before it."""
    by_record = np.argsort(records, kind="stable")
    ordered = records[by_record]
    repeats = np.empty_like(records)
    repeats[by_record] = np.arange(len(records)) - np.searchsorted(ordered, ordered)
    return repeats


def process_slice(batch: Ints, *, process: int, processes: int) -> Ints:
    """The part of a global batch that falls to one process: consecutive, equal shares."""
    share, rest = divmod(len(batch), processes)
    assert rest == 0, (len(batch), processes)
    return batch[process * share : (process + 1) * share]
