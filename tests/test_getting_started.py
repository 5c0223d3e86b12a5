"""The commands of docs/getting-started.md, run in order in an empty folder, with the files that it shows beside them.

They are the guide's own but for what stands here: what makes them smaller, and what is not run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from guide import ROOT, read_blocks

GUIDE = ROOT / "docs" / "getting-started.md"
BLOCKS = read_blocks(GUIDE)
FILES = {block.file_name: block.text for block in BLOCKS if block.file_name is not None}
COMMANDS = [command for block in BLOCKS if block.language == "bash" for command in block.commands()]

SMALLER: dict[str, dict[str, str]] = {
    "photos.py": {"= 60, 20": "= 4, 2"},
    "quantizer.yaml": {
        "steps: 300": "steps: 2",
        "continuous_steps: 100": "continuous_steps: 1",
        "warmup_steps: 50": "warmup_steps: 1",
        "validation_images: 60": "validation_images: 6",
    },
    "teacher.py": {"EPOCHS = 64, 8": "EPOCHS = 64, 1"},
    "generate.yaml": {"steps: 2": "steps: 1"},
    "train.yaml": {
        "batch_size: 64": "batch_size: 8",
        "epochs: 20": "epochs: 1",
        "warmup_epochs: 2": "warmup_epochs: 0",
    },
}
"""What the run changes in the guide's files, to be quick."""

ADDED = {
    "dad train-quantizer": " --set threads=1",
    # After one epoch the teacher guesses.
    "dad generate generate.yaml": " --set compute.threads=1 --set check.allow_near_chance=true",
    "dad train train.yaml": " --set compute.threads=1 --set compute.workers=0",
}
"""What the run adds to the commands that begin so."""

NOT_RUN = {
    "python3 -m venv": "makes the environment that the tests run in",
    ". .venv/bin/activate": "enters it",
    "pip install": "fills it from a package index",
    "dad fetch": "downloads gigabytes; tests/pipeline/test_fetch_command.py has a server of its own",
}
"""How the commands begin that are not run."""


def write_files(folder: Path) -> None:
    for name, text in FILES.items():
        for before, after in SMALLER.get(name, {}).items():
            assert text.count(before) == 1, f"{name} no longer says {before}"
            text = text.replace(before, after)
        (folder / name).write_text(text)


def test_what_stands_here_is_in_the_guide() -> None:
    assert set(SMALLER) <= set(FILES)
    for begin in (*ADDED, *NOT_RUN):
        assert any(command.startswith(begin) for command in COMMANDS), begin


@pytest.mark.timeout(900)  # a dozen programs, one after another: on a busy machine they take minutes
def test_every_command_runs(tmp_path: Path) -> None:
    write_files(tmp_path)
    programs = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment = os.environ | programs | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    for command in COMMANDS:
        if command.startswith(tuple(NOT_RUN)):
            continue
        added = next((more for begin, more in ADDED.items() if command.startswith(begin)), "")
        ended = subprocess.run(
            command + added, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    made = {path.name for path in tmp_path.iterdir()}
    assert made >= {"photos", "clean", "quantizer", "teacher.safetensors", "shards", "pictures.png", "report.html"}
    assert "corrupted" in (tmp_path / "evaluation" / "results.md").read_text()
