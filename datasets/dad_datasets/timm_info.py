"""`_info.json`: the splits of a dataset as timm's webdataset reader expects them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dad_datasets.folder import Folder
from dad_datasets.index import ShardSummary
from dad_datasets.layout import TIMM_INFO, shard_name


def write_timm_info(folder: Folder, shards: Sequence[ShardSummary]) -> None:
    """Publish `_info.json`; the one split is called train."""
    split = {
        "name": "train",
        "filenames": [shard_name(shard.unit) for shard in shards],
        "shard_lengths": [shard.ok for shard in shards],
        "num_samples": sum(shard.ok for shard in shards),
    }
    with folder.publish(TIMM_INFO) as stream:
        stream.write(json.dumps({"splits": {"train": split}}, indent=1).encode() + b"\n")
