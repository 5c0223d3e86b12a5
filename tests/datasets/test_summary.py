"""The figures of a dataset, against the same figures by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from rich.console import Console

from dad_datasets.folder import LocalFolder
from dad_datasets.index import Row, ShardSummary, index_schema, write_index
from dad_datasets.layout import index_name
from dad_datasets.summary import DatasetSummary, Mean, finished_units, summarise, summary_table


def stored(view: int, label: int, clean: int, adversarial: int, changed: float, vqgan: int | None = None) -> Row:
    return {
        "view": view,
        "label": label,
        "status": "ok",
        "reason": "",
        "teacher_clean_top1": clean,
        "teacher_adv_top1": adversarial,
        "teacher_vqgan_top1": vqgan,
        "codes_changed_by_attack": changed,
        "psnr_db": 30.0 + view,
    }


def clean_only(view: int, label: int, clean: int) -> Row:
    return {"view": view, "label": label, "status": "clean_only", "reason": "", "teacher_clean_top1": clean}


def failed(view: int, reason: str) -> Row:
    return {"view": view, "status": "failed", "reason": reason}


UNITS = {
    "a-00000": [stored(0, 1, 1, 1, 0.5, 1), stored(1, 1, 0, 0, 0.25), failed(0, "corrupt"), failed(1, "corrupt")],
    "a-00001": [stored(0, 2, 2, 0, 0.75), clean_only(1, 2, 2), failed(0, "truncated"), failed(1, "truncated")],
    "b-00000": [failed(0, "corrupt")],
}


@pytest.fixture
def folder(tmp_path: Path) -> LocalFolder:
    folder = LocalFolder(tmp_path)
    for unit, rows in UNITS.items():
        counts = [sum(row["status"] == status for row in rows) for status in ("ok", "clean_only", "failed")]
        summary = ShardSummary(
            unit=unit,
            fingerprint="",
            tar_sha256="",
            tar_bytes=1000,
            rows=len(rows),
            ok=counts[0],
            clean_only=counts[1],
            failed=counts[2],
        )
        with folder.publish(index_name(unit)) as stream:
            write_index(stream, rows, index_schema(("webp",), {}), summary)
    return folder


def shown(summary: DatasetSummary, **options: dict[str, float]) -> dict[str, str]:
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        console.print(summary_table(summary, title="figures", **options))
    cells = [line.strip("│┃ ").split("│") for line in capture.get().splitlines() if "│" in line.strip("│ ")]
    return {name.strip(): value.strip() for name, value in cells}


def test_figures_are_those_counted_by_hand(folder: LocalFolder) -> None:
    (folder.path / "index" / "notes.txt").touch()
    units = finished_units(folder)
    assert units == list(UNITS)
    summary = summarise(folder, units)
    assert (summary.units, summary.images, summary.tar_bytes) == (3, 5, 3000)
    assert summary.status == {"ok": 3, "clean_only": 1, "failed": 5}
    assert summary.reasons == {"corrupt": 3, "truncated": 2}
    assert summary.index_bytes == sum(path.stat().st_size for path in (folder.path / "index").glob("*.parquet"))
    assert summary.bytes_per_view() == (3000 + summary.index_bytes) / 4
    assert summary.means["teacher accuracy, clean"] == Mean(3, 4)
    assert summary.means["teacher accuracy, after the VQGAN alone"] == Mean(1, 1)
    assert summary.means["teacher accuracy, adversarial"] == Mean(1, 3)
    assert summary.means["codes changed by the attack"] == Mean(1.5, 3)
    assert summary.means["PSNR, adversarial"] == Mean(91, 3)
    assert summary.means["perturbation, l2"].count == 0


def test_the_table_shows_them(folder: LocalFolder) -> None:
    table = shown(summarise(folder, UNITS), seconds={"attack": 1234.56})
    assert table["clean images"] == "5"
    assert table["clean-only views"] == "1"
    assert (table["failed views"], table["corrupt"], table["truncated"]) == ("5", "3", "2")
    assert table["teacher accuracy, clean"] == "75.0%"
    assert table["teacher accuracy, after the VQGAN alone"] == "100.0% (of 1 scored)"
    assert table["codes changed by the attack"] == "50.0%"
    assert table["PSNR, adversarial"] == "30.33 dB"
    assert table["time, attack"] == "1,234.6 s"
    assert "perturbation, l2" not in table


def test_nothing_has_no_mean_and_no_size() -> None:
    assert math.isnan(Mean().value)
    table = shown(DatasetSummary())
    assert table["bytes per view (tar and index)"] == "-"
    assert "clean-only views" not in table
