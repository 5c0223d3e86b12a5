"""Speeds measured side by side, and the JSON that every speed benchmark writes.

A script times alternatives in turn, makes `Figure`s of the rounds and publishes them as one `SpeedResult`:

    seconds = alternated({"ours": ours, "bare": bare}, rounds=7)
    figures = [Figure.of("x over y", ratios(seconds["ours"], seconds["bare"]), unit="x", at_most=1.1)]
    publish(out, SpeedResult.here("reading_speed", "Reading", figures, libraries=("numpy",), seeds=(0,), small=False))

`python benchmarks/table.py` then makes the table in README.md of all files in results/speed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from machine import hardware, versions
from pydantic import Field

from dad_datasets.folder import LocalFolder
from dad_datasets.settings import Settings

Clock = Callable[[], float]

CPU: Clock = time.process_time
"""CPU seconds of all threads of this process, so that other programs count little: for figures "a core"."""

WALL: Clock = time.perf_counter


def alternated(runs: Mapping[str, Callable[[], object]], *, rounds: int, clock: Clock = WALL) -> dict[str, list[float]]:
    """Seconds of each run, `rounds` times in turn after a round that is not measured.

    Every other round goes backwards, so that none always follows the same one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name in list(runs) if number % 2 else reversed(list(runs)):
            started = clock()
            runs[name]()
            if number > 0:
                seconds[name].append(clock() - started)
    return seconds


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    """Round by round: what slows both sides of a round cancels."""
    return [above / below for above, below in zip(numerator, denominator, strict=True)]


class Figure(Settings):
    """One row of the table."""

    name: str = Field(description="Unique over all results, and what README.md calls it where a target is missed.")
    value: float = Field(description="The median of the rounds.")
    unit: str = Field(description='"x" for a ratio.')
    low: float | None = Field(None, description="First quartile of the rounds; not given for what is counted.")
    high: float | None = Field(None, description="Third quartile.")
    at_least: float | None = Field(None, description="The target, in the same unit.")
    at_most: float | None = None
    note: str = Field("", description="What must be known to read the figure.")

    @classmethod
    def of(
        cls,
        name: str,
        rounds: Sequence[float],
        *,
        unit: str,
        at_least: float | None = None,
        at_most: float | None = None,
        note: str = "",
    ) -> Figure:
        """The median and the quartiles of measured rounds; of one round alone, that."""
        low, _, high = statistics.quantiles(rounds, n=4, method="inclusive") if len(rounds) > 1 else [None] * 3
        return cls(
            name=name,
            value=statistics.median(rounds),
            unit=unit,
            low=low,
            high=high,
            at_least=at_least,
            at_most=at_most,
            note=note,
        )

    @property
    def is_missed(self) -> bool:
        """Whether there is a target, and the figure does not reach it."""
        too_low = self.at_least is not None and self.value < self.at_least
        return too_low or (self.at_most is not None and self.value > self.at_most)


class SideTable(Settings):
    """Figures without targets that belong together, shown below the table; cells are as they will be read."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class SpeedResult(Settings):
    """One file of results/speed."""

    name: str = Field(description="Of the script and of the file, which may say more: generation_speed_h100.")
    title: str
    command: str
    device: Literal["cpu", "gpu"] = Field("cpu", description="Which of the hardware the table names.")
    small: bool = Field(description="Taken at toy size, to see that the script works: never committed.")
    hardware: dict[str, str | int | None]
    versions: dict[str, str]
    seeds: tuple[int, ...]
    figures: tuple[Figure, ...]
    tables: tuple[SideTable, ...] = ()

    @classmethod
    def here(
        cls,
        name: str,
        title: str,
        figures: Sequence[Figure],
        *,
        libraries: Sequence[str],
        seeds: Sequence[int],
        small: bool,
        tables: Sequence[SideTable] = (),
        command: str = "",
        device: Literal["cpu", "gpu"] = "cpu",
    ) -> SpeedResult:
        """With this machine's hardware and versions. `command` is needed where options change the result."""
        return cls(
            name=name,
            title=title,
            command=command or f"python benchmarks/{name}.py --out benchmarks/results/speed",
            device=device,
            small=small,
            hardware=hardware(),
            versions=versions(*libraries),
            seeds=tuple(seeds),
            figures=tuple(figures),
            tables=tuple(tables),
        )


def publish(out: Path, result: SpeedResult) -> None:
    """Write OUT/<name>.json, and the figures on the screen."""
    with LocalFolder(out).publish(f"{result.name}.json") as stream:
        stream.write((result.model_dump_json(indent=1) + "\n").encode())
    for figure in result.figures:
        print(f"{figure.name}: {figure.value:,.4g} {figure.unit}{' (target missed)' if figure.is_missed else ''}")


def read_results(folder: Path) -> list[SpeedResult]:
    """Every file of results, by name."""
    return [SpeedResult.model_validate_json(path.read_bytes()) for path in sorted(folder.glob("*.json"))]
