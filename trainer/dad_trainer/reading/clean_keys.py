"""Whether a clean source holds the images that records were made from."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from dad_datasets.errors import UserError
from dad_datasets.sources import CleanSource
from dad_trainer.reading.record_table import RecordTable

ASKED = 256
"""Keys that are fetched, spread over the records, of a source that cannot say cheaply whether it has one."""

NAMED = 3
"""Missing keys that a message names."""


@runtime_checkable
class KnowsItsKeys(Protocol):
    """A source that can say, without reading the image, whether `fetch` would find a key."""

    def has(self, source_key: str) -> bool: ...


def missing_samples(source: CleanSource, records: RecordTable, *, all_of_them: bool) -> npt.NDArray[np.int32]:
    """The samples whose image the source does not hold, in order.

    Every key is asked for where that is cheap or `all_of_them` are wanted, else ASKED of them, spread evenly.
    """
    samples = np.arange(len(records.source_keys), dtype=np.int32)
    if not isinstance(source, KnowsItsKeys) and not all_of_them and len(samples) > ASKED:
        samples = samples[np.linspace(0, len(samples) - 1, ASKED).round().astype(np.int64)]
    found = [_has(source, records.source_keys[int(sample)].as_py()) for sample in samples]
    missing: npt.NDArray[np.int32] = samples[~np.array(found, dtype=np.bool_)]
    return missing


def without_missing(source: CleanSource, name: str, records: RecordTable, *, max_missing: float) -> RecordTable:
    """The records whose clean image is there. UserError where the share of images that are not is above `max_missing`.

    With `max_missing` 0 a source without `has` is only asked for some: the others are refused when they are read.
    """
    missing = missing_samples(source, records, all_of_them=max_missing > 0)
    if not len(missing):
        return records
    total = len(records.source_keys)
    if len(missing) == total or len(missing) > max_missing * total:
        keys = [records.source_keys[int(sample)].as_py() for sample in missing[:NAMED]]
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        raise UserError(
            f"clean data {name}: holds no usable image {', '.join(keys)}{more}, of {total:,} that the shards were made "
            f"from; at most a share of max_missing = {max_missing:g} may be missing"
        )
    return records.without_samples(missing)


def _has(source: CleanSource, source_key: str) -> bool:
    if isinstance(source, KnowsItsKeys):
        return source.has(source_key)
    try:
        source.fetch(source_key)
    except KeyError:
        return False
    return True
