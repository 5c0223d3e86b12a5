"""A few views of a dataset as a picture grid, chosen evenly over its shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from dad_datasets.clean_views import CleanViews
from dad_datasets.folder import Folder
from dad_datasets.index import read_index
from dad_datasets.manifest import Manifest
from dad_datasets.picture_grid import GridRow
from dad_datasets.plugins import Reconstruct
from dad_datasets.shard_reader import open_shard


def grid_rows(
    folder: Folder, manifest: Manifest, units: Sequence[str], *, count: int, reconstruct: Reconstruct | None
) -> list[GridRow]:
    """At most `count` stored views with their pictures. UserError where the source behind them is gone."""
    clean_views = CleanViews(manifest)
    spread = [units[i * len(units) // min(count, len(units))] for i in range(min(count, len(units)))]
    result: list[GridRow] = []
    for number, unit in enumerate(spread):
        wanted = (count - len(result)) // (len(spread) - number)
        table = read_index(folder, unit)
        table = table.filter(pc.equal(table["status"], "ok"))
        if not wanted or not len(table):
            continue
        places = [i * len(table) // min(wanted, len(table)) for i in range(min(wanted, len(table)))]
        rows = table.take(places).to_pylist()
        with open_shard(folder, unit) as shard:
            adversarial = [shard.canvas(row) for row in rows]
            clean = clean_views.canvases(unit, rows, shard)
        vqgan = None if reconstruct is None else reconstruct(manifest, np.stack(clean))
        result += [
            GridRow(
                caption=_caption(row, manifest),
                clean=clean[i],
                vqgan=None if vqgan is None else vqgan[i],
                adversarial=adversarial[i],
            )
            for i, row in enumerate(rows)
        ]
    return result


def _caption(row: Mapping[str, Any], manifest: Manifest) -> str:
    def name(column: str) -> str:
        index, names = row[column], manifest.class_names or ()
        return names[index] if index is not None and 0 <= index < len(names) else _shown(index, "")

    def figure(column: str, form: str) -> str:
        return _shown(row[column], form)

    return (
        f"{name('label')}: teacher {name('teacher_clean_top1')} {figure('teacher_clean_confidence', '.0%')} -> "
        f"{name('teacher_adv_top1')} {figure('teacher_adv_confidence', '.0%')}\n"
        f"{figure('codes_changed_by_attack', '.0%')} of the codes changed by the attack, "
        f"{figure('psnr_db', '.1f')} dB (VQGAN alone {figure('psnr_vqgan_db', '.1f')})"
    )


def _shown(value: float | None, form: str) -> str:
    """A measurement; other programs' indexes may lack some."""
    return "unknown" if value is None else format(value, form)
