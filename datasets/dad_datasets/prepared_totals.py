"""The figures of a prepared folder, counted from its indexes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.index import ShardSummary, read_index


@dataclass(frozen=True, kw_only=True)
class PreparedTotals:
    """What a prepared folder holds; `failures` counts unusable samples by reason, `tar_bytes` adds up all tars."""

    images: int
    num_classes: int
    failures: dict[str, int]
    shards: int
    tar_bytes: int


def count_prepared(
    folder: Folder, summaries: Sequence[ShardSummary], class_names: tuple[str, ...] | None
) -> PreparedTotals:
    """Totals over all indexes, those of earlier runs too. UserError where not one sample is usable."""
    failures, largest = Counter[str](), -1
    for summary in summaries:
        rows = read_index(folder, summary.unit, ("label", "reason"))
        for row in rows.to_pylist():
            if row["reason"]:
                failures[row["reason"]] += 1
            else:
                largest = max(largest, row["label"])
    images = sum(summary.ok for summary in summaries)
    if images == 0:
        reason, count = failures.most_common(1)[0]
        raise UserError(f"not one of the source's {failures.total():,} samples is usable; {count:,} times: {reason}")
    return PreparedTotals(
        images=images,
        num_classes=largest + 1 if class_names is None else len(class_names),
        failures=dict(failures.most_common()),
        shards=len(summaries),
        tar_bytes=sum(summary.tar_bytes for summary in summaries),
    )
