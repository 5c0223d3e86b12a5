"""What is written once, when every unit is there: the shard table, the manifest's totals, the data card."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc

from dad_datasets.clean_hash import CleanHash
from dad_datasets.data_card import write_data_card, write_timm_info
from dad_datasets.folder import Folder
from dad_datasets.index import read_index, read_summary
from dad_datasets.manifest import Manifest, write_manifest
from dad_datasets.shard_table import write_shard_table


def finish_dataset(folder: Folder, manifest: Manifest, units: Sequence[str]) -> Manifest:
    """Write shards.parquet, the data card and, last, the finished manifest. `units` are in the order of the source."""
    summaries = [read_summary(folder, unit) for unit in units]
    write_shard_table(folder, summaries)
    clean, samples = CleanHash(), 0
    for unit in units:
        rows = read_index(folder, unit, ["view", "source_key", "source_sha256"])
        rows = rows.filter(pc.equal(rows["view"], 0))
        for key, digest in zip(rows["source_key"].to_pylist(), rows["source_sha256"].to_pylist(), strict=True):
            clean.add(key, digest)
        samples += len(rows)
    totals = {"shards": len(units), "samples": samples, "clean_sha256": clean.hexdigest()}
    finished = manifest.model_copy(update={"state": "finished", **totals})
    if manifest.kind == "adversarial":
        write_data_card(folder, finished)
        if any(summary.tar_bytes for summary in summaries):
            write_timm_info(folder, summaries)
    write_manifest(folder, finished)
    return finished
