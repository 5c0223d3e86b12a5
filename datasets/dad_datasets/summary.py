"""The figures of a dataset, read from its indexes: the closing table of a run, and what `dad inspect` prints."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table
from rich.text import Text

from dad_datasets.folder import Folder
from dad_datasets.index import ShardSummary, read_summary_and_index
from dad_datasets.layout import INDEX, index_name
from dad_datasets.mistakes import shortened

COLUMNS = (
    "view",
    "label",
    "status",
    "reason",
    "teacher_clean_top1",
    "teacher_vqgan_top1",
    "teacher_adv_top1",
    "teacher_adv_confidence",
    "teacher_clean_confidence",
    "codes_changed_by_attack",
    "psnr_db",
    "psnr_vqgan_db",
    "l2",
    "linf",
    "objective_before",
    "objective_after",
)


@dataclass(frozen=True)
class Mean:
    """A mean with the number of values behind it."""

    total: float = 0.0
    count: int = 0

    @property
    def value(self) -> float:
        """NaN where nothing was counted."""
        return self.total / self.count if self.count else float("nan")

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.total + other.total, self.count + other.count)


@dataclass(kw_only=True)
class DatasetSummary:
    """Sums over a dataset's indexes; memory does not grow with the number of shards."""

    units: int = 0
    images: int = 0
    status: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    tar_bytes: int = 0
    index_bytes: int = 0
    means: dict[str, Mean] = field(default_factory=dict)

    def bytes_per_view(self) -> float:
        """Tar and index bytes for each stored view; NaN where there is none."""
        stored = self.status["ok"] + self.status["clean_only"]
        return (self.tar_bytes + self.index_bytes) / stored if stored else float("nan")

    def add(self, shard: ShardSummary, index_bytes: int, rows: pa.Table) -> None:
        """Count one unit; `rows` are its index with at least COLUMNS."""
        self.units += 1
        self.tar_bytes += shard.tar_bytes
        self.index_bytes += index_bytes
        _add_rows(self, rows)


def finished_units(folder: Folder) -> list[str]:
    """Names of the units whose index is there, sorted; one listing."""
    return [name.removesuffix(".parquet") for name in folder.names(INDEX) if name.endswith(".parquet")]


def summarise(folder: Folder, units: Iterable[str]) -> DatasetSummary:
    """The figures over `units`, one index in memory at a time. UserError where an index is damaged."""
    result = DatasetSummary()
    for unit in units:
        shard, rows = read_summary_and_index(folder, unit, COLUMNS)
        result.add(shard, folder.size(index_name(unit)), rows)
    return result


def _add_rows(result: DatasetSummary, rows: pa.Table) -> None:
    result.images += pc.sum(pc.equal(rows["view"], 0)).as_py() or 0
    for name, counter in (("status", result.status), ("reason", result.reasons)):
        for pair in rows[name].value_counts().to_pylist():
            counter[pair["values"]] += pair["counts"]
    result.reasons.pop("", None)
    figures = {
        "teacher accuracy, clean": pc.equal(rows["teacher_clean_top1"], rows["label"]),
        "teacher accuracy, after the VQGAN alone": pc.equal(rows["teacher_vqgan_top1"], rows["label"]),
        "teacher accuracy, adversarial": pc.equal(rows["teacher_adv_top1"], rows["label"]),
        "teacher confidence, clean": rows["teacher_clean_confidence"],
        "teacher confidence, adversarial": rows["teacher_adv_confidence"],
        "codes changed by the attack": rows["codes_changed_by_attack"],
        "PSNR, adversarial": rows["psnr_db"],
        "PSNR, VQGAN alone": rows["psnr_vqgan_db"],
        "perturbation, l2": rows["l2"],
        "perturbation, linf": rows["linf"],
        "objective, clean": rows["objective_before"],
        "objective, adversarial": rows["objective_after"],
    }
    for name, column in figures.items():
        values = pc.cast(column, pa.float64())
        mean = Mean(pc.sum(values).as_py() or 0.0, len(values) - values.null_count)
        result.means[name] = result.means.get(name, Mean()) + mean


def summary_rows(summary: DatasetSummary) -> list[tuple[str, str]]:
    """Every figure by name, as people read it; a reason of failures is set in by two blanks."""
    rows = [
        ("clean images", f"{summary.images:,}"),
        ("shards", f"{summary.units:,}"),
        ("adversarial views", f"{summary.status['ok']:,}"),
    ]
    if summary.status["clean_only"]:
        rows.append(("clean-only views", f"{summary.status['clean_only']:,}"))
    rows.append(("failed views", f"{summary.status['failed']:,}"))
    rows += [(f"  {shortened(reason)}", f"{count:,}") for reason, count in summary.reasons.most_common()]
    rows += [(name, _shown(name, mean, summary)) for name, mean in summary.means.items() if mean.count]
    size = summary.bytes_per_view()
    return [*rows, ("bytes per view (tar and index)", "-" if math.isnan(size) else f"{size:,.0f}")]


def summary_table(summary: DatasetSummary, *, title: str, seconds: dict[str, float] | None = None) -> Table:
    """The closing table. `seconds` adds the time of each stage."""
    table = Table(title=Text(title), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, figure in summary_rows(summary):
        table.add_row(Text(name), figure)
    for stage, spent in (seconds or {}).items():
        table.add_row(f"time, {stage}", f"{spent:,.1f} s")
    return table


def _shown(name: str, mean: Mean, summary: DatasetSummary) -> str:
    if "accuracy" in name or "confidence" in name or "codes" in name:
        partly = "" if mean.count >= summary.status["ok"] else f" (of {mean.count:,} scored)"
        return f"{mean.value:.1%}{partly}"
    unit = " dB" if name.startswith("PSNR") else " nats" if name.startswith("objective") else ""
    return f"{mean.value:.2f}{unit}" if unit else f"{mean.value:.4f}"
