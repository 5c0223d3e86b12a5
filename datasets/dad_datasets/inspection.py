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
    def name(index: int) -> str:
        names = manifest.class_names or ()
        return names[index] if 0 <= index < len(names) else str(index)

    return (
        f"{name(row['label'])}: teacher {name(row['teacher_clean_top1'])} {row['teacher_clean_confidence']:.0%} -> "
        f"{name(row['teacher_adv_top1'])} {row['teacher_adv_confidence']:.0%}\n"
        f"{row['codes_changed_by_attack']:.0%} of the codes changed by the attack, "
        f"{row['psnr_db']:.1f} dB (VQGAN alone {row['psnr_vqgan_db']:.1f})"
    )
