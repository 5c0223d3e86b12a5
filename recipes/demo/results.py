"""The demo's figures in one file, and where its pictures are.

    python recipes/demo/results.py runs/demo

Reads what `dad generate`, `dad inspect` and `dad sweep` left under that folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dad_datasets.folder import LocalFolder
from dad_datasets.summary import finished_units, summarise


def collect(folder: Path) -> dict[str, object]:
    """`shards`: means over the dataset's views; `students`: accuracies and calibration errors, shares of 1."""
    dataset = LocalFolder(folder / "dad")
    summary = summarise(dataset, finished_units(dataset))
    table = json.loads((folder / "students" / "table.json").read_text())
    return {
        "shards": {name: mean.value for name, mean in summary.means.items()},
        "students": {
            student: {name: figure["mean"] for name, figure in figures.items()} for student, figures in table.items()
        },
    }


def write_results(folder: Path) -> None:
    """`results.json` under `folder`."""
    with LocalFolder(folder).publish("results.json") as stream:
        stream.write((json.dumps(collect(folder), indent=1) + "\n").encode())
    print(f"figures: {folder / 'results.json'}")
    print(f"pictures: {folder / 'pictures.png'}, {folder / 'students' / 'evaluation' / 'results.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the demo's folder")
    write_results(parser.parse_args().folder)
