"""What benchmarks/long_run.py says of memory that grows and of memory that does not, and a real run of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import long_run
import numpy as np
import pytest

from dad_datasets.seeding import generator_for

UNITS = np.arange(50, 4050, 50, dtype=np.float64)


def test_a_leak_shows_under_noise_that_wanders() -> None:
    """100 bytes a unit, under steps of 4 KiB up and down that stay for a while."""
    wander = 4096 * np.repeat(generator_for("wander").integers(-3, 4, len(UNITS) // 4), 4)
    per_unit, low, high = long_run.slope(UNITS, np.asarray(5e8 + 100 * UNITS + wander, np.float64))
    assert 0 < low < 100 < high
    assert low < per_unit < high
    _, low, high = long_run.slope(UNITS, np.asarray(5e8 + wander, np.float64))
    assert low < 0 < high


def test_a_process_is_measured_without_what_it_shares() -> None:
    pid = os.getpid()
    before = long_run.resident_bytes(pid)
    held = bytearray(b"x") * (64 << 20)
    assert 60 << 20 < long_run.resident_bytes(pid) - before < 70 << 20
    assert len(held) == 64 << 20
    assert long_run.resident_bytes(2**22 + 1) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runner", "bytes_per_unit"),
    [("local", 1000), ("ray", 4000)],  # the actor grows in steps: 1,758 bytes a unit over 4,000 units
)
def test_memory_hardly_grows_with_the_units(
    runner: str, bytes_per_unit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--units", "1400", "--runner", runner, "--work", str(tmp_path / "work"), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["long_run.py", *options])
    long_run.main()
    result = json.loads((tmp_path / f"{runner}_cpu.json").read_text())
    assert result["driver"]["bytes_per_unit"] < 1000
    assert result["worker"]["bytes_per_unit"] < bytes_per_unit
    assert result["log_bytes_per_unit"] < 1000
