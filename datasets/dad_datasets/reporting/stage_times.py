"""How long the stages of generation took, from the logs under `runs/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.layout import RUNS

LOG = "run.json"


@dataclass(kw_only=True)
class StageTimes:
    """Added up over all runs that made the dataset, an interrupted one and those that went on with it."""

    runs: int = 0
    wall_s: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds by stage over all workers: more than `wall_s` where they overlap."""
    machines: dict[str, int] = field(default_factory=dict)
    """Runs by runner and number of cores."""
    failed_units: dict[str, str] = field(default_factory=dict)
    """Units that no worker could make, and why; those that a later run made are left out."""

    def add(self, log: Mapping[str, Any]) -> None:
        """One run, later than those added before. KeyError, TypeError or ValueError where it is no log of ours."""
        self.wall_s += float(log["wall_s"])
        for stage, spent in log["stage_seconds"].items():
            self.stages[stage] = self.stages.get(stage, 0.0) + float(spent)
        machine = f"{log['runner']} runner, {int(log['cores'])} cores"
        self.machines[machine] = self.machines.get(machine, 0) + 1
        for unit in log["units"]:
            if "rows" in unit:
                self.failed_units.pop(unit["unit"], None)
            else:
                self.failed_units[unit["unit"]] = str(unit["reason"])
        self.runs += 1


def read_stage_times(folder: Folder) -> StageTimes:
    """The times in `folder`, none where it has no logs. UserError where one is damaged."""
    times = StageTimes()
    for run in folder.subfolders(RUNS):
        name = f"{RUNS}/{run}/{LOG}"
        if not folder.exists(name):
            continue  # another command's, or of a run that was killed
        try:
            with folder.open(name) as stream:
                log = json.load(stream)
            if "stage_seconds" in log:
                times.add(log)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{folder.url}/{name}: is damaged; move it away to go without its times") from None
    return times
