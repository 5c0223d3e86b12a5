"""What `docker/reproduce.sh` runs and what must come out of it: the files in docker/expected.

    python docker/figures.py steps docker/expected/demo.json      # image and command, one step a line, split by tabs
    python docker/figures.py compare docker/expected/demo.json    # a table; exit status 1 where a figure differs

Paths in them start at the current directory. Reads with the standard library alone, but for folders of shards, which
`dad_datasets` sums up.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGES = ("pipeline", "trainer")


@dataclass(frozen=True)
class Step:
    """A command, and which of the two images it runs in."""

    image: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A figure by its path in the results, as it was committed; one that is further off than `tolerance` is wrong."""

    path: str
    expected: float
    tolerance: float


@dataclass(frozen=True)
class Reproduction:
    """A file of docker/expected: steps, where their results lie (a JSON file or a folder of shards), and figures."""

    steps: tuple[Step, ...]
    results: Mapping[str, str]
    figures: tuple[Figure, ...]


class ReproductionError(Exception):
    """What the caller did wrong, in one sentence."""


def read_reproduction(path: Path) -> Reproduction:
    """ReproductionError where the file is missing or not what this program reads."""
    try:
        content = json.loads(path.read_text())
        return Reproduction(
            steps=tuple(_step(step["image"], step["command"]) for step in content["steps"]),
            results=dict(content["results"]),
            figures=tuple(
                Figure(name, float(expected), float(group["tolerance"]))
                for group in content["figures"]
                for name, expected in group["expected"].items()
            ),
        )
    except OSError as error:
        raise ReproductionError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReproductionError(f"{path}: not a file of steps, results and figures: {error!r}") from None


def _step(image: str, command: str) -> Step:
    if image not in IMAGES:
        raise ValueError(f"image {image}: allowed are {', '.join(IMAGES)}")
    return Step(image, tuple(command.split()))


def read_results(results: Mapping[str, str]) -> dict[str, object]:
    """The content of each result under its name. ReproductionError where one is missing."""
    paths = {name: Path(path) for name, path in results.items()}
    return {name: _dataset_means(path) if path.is_dir() else _json(path) for name, path in paths.items()}


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReproductionError(f"{path}: no result that can be read ({error})") from None


def _dataset_means(folder: Path) -> dict[str, float]:
    from dad_datasets.folder import LocalFolder
    from dad_datasets.summary import finished_units, summarise

    dataset = LocalFolder(folder)
    summary = summarise(dataset, finished_units(dataset))
    return {name: mean.value for name, mean in summary.means.items()} | {"bytes_per_view": summary.bytes_per_view()}


def found(results: object, path: str) -> float:
    """The number at `path`, names split by slashes; NaN where there is none."""
    for name in path.split("/"):
        if not isinstance(results, Mapping) or name not in results:
            return math.nan
        results = results[name]
    return float(results) if isinstance(results, int | float) else math.nan


def agrees(figure: Figure, value: float) -> bool:
    """Whether a value may stand for the figure; NaN never does. The last bits of the bounds belong to them."""
    return abs(value - figure.expected) <= figure.tolerance * (1 + 1e-9) + 1e-12


def compare(figures: Sequence[Figure], results: Mapping[str, object]) -> tuple[str, bool]:
    """A table with a row for each figure, and whether all of them agree."""
    rows = [("figure", "expected", "tolerance", "found", "ok")]
    values = [found(results, figure.path) for figure in figures]
    right = [agrees(figure, value) for figure, value in zip(figures, values, strict=True)]
    for figure, value, ok in zip(figures, values, right, strict=True):
        shown = "missing" if math.isnan(value) else f"{value:.4g}"
        rows.append((figure.path, f"{figure.expected:.4g}", f"{figure.tolerance:.2g}", shown, "yes" if ok else "NO"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines), bool(figures) and all(right)


def main(arguments: Sequence[str]) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["steps", "compare"])
    parser.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    try:
        reproduction = read_reproduction(options.file)
        if options.action == "steps":
            for step in reproduction.steps:
                print(step.image, *step.command, sep="\t")
            return 0
        table, right = compare(reproduction.figures, read_results(reproduction.results))
    except ReproductionError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    print(table)
    print("all figures agree" if right else "some figures differ")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
