"""What is written once, when every unit is there: shard table, data card, report and the manifest's totals."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.compute as pc

from dad_datasets.clean_card import write_clean_card
from dad_datasets.clean_hash import CleanHash
from dad_datasets.data_card import write_data_card
from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index import ShardSummary, read_index, read_summary
from dad_datasets.layout import index_name
from dad_datasets.manifest import Manifest, write_manifest
from dad_datasets.reporting.clean_figures import gather_clean_figures
from dad_datasets.reporting.dataset_figures import gather_figures
from dad_datasets.reporting.dataset_page import write_report
from dad_datasets.shard_table import write_shard_table
from dad_datasets.timm_info import write_timm_info


def finish_dataset(folder: Folder, manifest: Manifest, units: Sequence[str], *, card_note: str = "") -> Manifest:
    """Write shards.parquet, the data card, the report and, last, the finished manifest.

    `units` are in the order of the source. `card_note` is Markdown on how an adversarial set was made, for its card.
    UserError where another run made one of the units.
    """
    summaries = [_own_summary(folder, unit, manifest) for unit in units]
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
        write_data_card(folder, finished, figures.summary, columns=columns, note=card_note)
        write_report(folder, finished, figures)
    else:
        write_clean_card(folder, finished, gather_clean_figures(folder, units), units)
    if any(summary.tar_bytes for summary in summaries):
        write_timm_info(folder, summaries)
    write_manifest(folder, finished)
    return finished


def _own_summary(folder: Folder, unit: str, manifest: Manifest) -> ShardSummary:
    summary = read_summary(folder, unit)
    if summary.fingerprint != manifest.fingerprint:
        raise UserError(f"{folder.url}/{index_name(unit)} was made by another run: remove it, and run again")
    return summary
