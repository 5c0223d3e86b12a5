"""Reports of folders on an object store: the same page as of the same files on a disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from dad_datasets.folder import Folder, LocalFolder, open_folder
from dad_datasets.reporting.stage_times import StageTimes, read_stage_times

LOGS = {
    "20260102-b": {"wall_s": 4, "stage_seconds": {"models": 3}, "units": [{"unit": "u", "rows": 2}]},
    "20260101-a": {"wall_s": 2, "stage_seconds": {"models": 1}, "units": [{"unit": "u", "reason": "it died"}]},
}


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://reported"
    fsspec.filesystem("memory").rm("/reported", recursive=True)


def write_logs(folder: Folder) -> Folder:
    for run, log in LOGS.items():
        with folder.publish(f"runs/{run}/run.json") as stream:
            stream.write(json.dumps({"runner": "local", "cores": 2, **log}).encode())
    with folder.publish("runs/notes.txt") as stream:
        stream.write(b"x")
    return folder


def test_logs_are_found_wherever_they_are(memory: str, tmp_path: Path) -> None:
    expected = StageTimes(runs=2, wall_s=6.0, stages={"models": 4.0}, machines={"local runner, 2 cores": 2})
    for folder in (write_logs(LocalFolder(tmp_path)), write_logs(open_folder(memory))):
        assert folder.subfolders("runs") == sorted(LOGS)
        assert folder.subfolders("nowhere") == []
        assert folder.subfolders("") == ["runs"]
        assert read_stage_times(folder) == expected
