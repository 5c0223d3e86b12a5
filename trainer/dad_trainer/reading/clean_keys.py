"""Whether a clean source holds the images that records were made from."""

from __future__ import annotations

import numpy as np

from dad_datasets.errors import UserError
from dad_datasets.sources import CleanSource
from dad_trainer.reading.record_table import RecordTable

NAMED = 3
"""Missing keys that a message names."""


def without_missing(source: CleanSource, name: str, records: RecordTable, *, max_missing: float) -> RecordTable:
    """The records whose clean image is there. UserError where the share of images that are not is above `max_missing`.

    Every image is asked for by `has`, none is read: what that cannot tell is refused when it is read.
    """
    missing = [sample for sample, key in enumerate(records.source_keys) if not source.has(key.as_py())]
    if not missing:
        return records
    total = len(records.source_keys)
    if len(missing) == total or len(missing) > max_missing * total:
        keys = [records.source_keys[sample].as_py() for sample in missing[:NAMED]]
        more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
        raise UserError(
            f"clean data {name}: holds no usable image {', '.join(keys)}{more}, of {total:,} that the shards were made "
            f"from; at most a share of max_missing = {max_missing:g} may be missing"
        )
    return records.without_samples(np.array(missing, np.int32))
