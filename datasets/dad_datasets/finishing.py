"""What is written once, when every unit is there: shard table, data card, report and the manifest's totals."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc

from dad_datasets.clean_hash import CleanHash
from dad_datasets.data_card import write_data_card, write_timm_info
from dad_datasets.folder import Folder
from dad_datasets.index import read_index, read_summary
from dad_datasets.manifest import Manifest, write_manifest
from dad_datasets.reporting.dataset_figures import gather_figures
from dad_datasets.reporting.dataset_page import write_report
from dad_datasets.shard_table import write_shard_table


def finish_dataset(folder: Folder, manifest: Manifest, units: Sequence[str]) -> Manifest:
    """Write shards.parquet, the data card, the report and, last, the finished manifest.

    `units` are in the order of the source.
    """
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
        figures = gather_figures(folder, units)
        columns = read_index(folder, units[0]).column_names if units else []
        write_data_card(folder, finished, figures.summary, columns=columns)
        write_report(folder, finished, figures)
        if any(summary.tar_bytes for summary in summaries):
            write_timm_info(folder, summaries)
    write_manifest(folder, finished)
    return finished
