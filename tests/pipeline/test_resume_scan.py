"""Going on in a folder: what is finished is this run's, and it is told from a bounded number of reads."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import pyarrow as pa
import pytest

from dad_datasets.errors import UserError
from dad_datasets.finishing import finish_dataset
from dad_datasets.folder import LocalFolder
from dad_datasets.index import IDENTITY_COLUMNS, ShardSummary, write_index
from dad_datasets.layout import index_name
from dad_datasets.manifest import Manifest
from dad_datasets.sources import WorkUnit
from dad_pipeline.resume_scan import failed_views
from dad_pipeline.unit_table import UnitTable

OWN, OTHER = "1" * 64, "2" * 64
NAMES = [f"u{number}" for number in range(10)]
UNITS = UnitTable.of(WorkUnit(name=name, source_shard="s", start=0, count=5) for name in NAMES)


class CountingFolder(LocalFolder):
    """Notes what is opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.opened: list[str] = []

    def open(self, name: str) -> IO[bytes]:
        self.opened.append(name)
        return super().open(name)


@pytest.fixture
def folder(tmp_path: Path) -> CountingFolder:
    """Ten finished units, of which unit n has n failed views."""
    folder = CountingFolder(tmp_path)
    for number, name in enumerate(NAMES):
        publish_index(folder, name, OWN, failed=number)
    return folder


def publish_index(folder: LocalFolder, unit: str, fingerprint: str, *, failed: int = 0) -> None:
    summary = ShardSummary(
        unit=unit, fingerprint=fingerprint, tar_sha256="", tar_bytes=0, rows=0, ok=0, clean_only=0, failed=failed
    )
    with folder.publish(index_name(unit)) as stream:
        write_index(stream, [], pa.schema(list(IDENTITY_COLUMNS)), summary)


def test_all_are_opened_where_they_are_few(folder: CountingFolder) -> None:
    assert failed_views(folder, NAMES, UNITS, OWN, most_opened=10) == sum(range(10))
    assert sorted(folder.opened) == [index_name(name) for name in NAMES]


def test_of_many_some_stand_for_all(folder: CountingFolder) -> None:
    """Units 0, 2, 4, 6, 8 have 20 failed views, which makes 40 of twice as many units."""
    assert failed_views(folder, NAMES, UNITS, OWN, most_opened=5) == 40
    assert sorted(folder.opened) == [index_name(f"u{number}") for number in (0, 2, 4, 6, 8)]


def test_nothing_finished_is_nothing_failed(folder: CountingFolder) -> None:
    assert failed_views(folder, [], UNITS, OWN, most_opened=5) == 0


def test_a_unit_of_another_run_is_refused(folder: CountingFolder) -> None:
    publish_index(folder, "u4", OTHER)
    with pytest.raises(UserError, match=r"index/u4\.parquet was made by another run: choose another output directory"):
        failed_views(folder, NAMES, UNITS, OWN, most_opened=5)


def test_a_unit_that_the_source_does_not_have_is_refused_unopened(folder: CountingFolder) -> None:
    with pytest.raises(UserError, match=r"index/t\.parquet was made by another run"):
        failed_views(folder, ["t", *NAMES], UNITS, OWN, most_opened=2)
    assert index_name("t") not in folder.opened


def test_a_dataset_with_a_unit_of_another_run_is_never_finished(folder: CountingFolder) -> None:
    """One that was not opened when the run went on."""
    publish_index(folder, "u3", OTHER)
    assert failed_views(folder, NAMES, UNITS, OWN, most_opened=5) == 40
    manifest = Manifest(
        kind="clean",
        state="running",
        fingerprint=OWN,
        fingerprinted={},
        recipe={},
        class_names=None,
        num_classes=1,
        shards=0,
        samples=0,
        clean_sha256="",
    )
    with pytest.raises(UserError, match=r"index/u3\.parquet was made by another run: remove it, and run again"):
        finish_dataset(folder, manifest, NAMES)
    assert not folder.exists("manifest.json")
    assert not folder.exists("shards.parquet")
