"""`runs/<id>/`: what happened, outside every byte comparison - host, times, one line a unit, failures."""

from __future__ import annotations

import json
import platform
import socket
import time
import uuid
from dataclasses import asdict

from dad_datasets.folder import Folder
from dad_datasets.layout import RUNS
from dad_pipeline.models import num_cores
from dad_pipeline.shard_generation import STAGES, UnitReport
from dad_pipeline.worker import UnitFailure


class RunLog:
    """Collects the events of one run and publishes them as `runs/<id>/run.json` when it ends, however it ends."""

    def __init__(self, folder: Folder, runner: str) -> None:
        self._folder = folder
        self.started = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self.started))
        self.name = f"{RUNS}/{stamp}-{uuid.uuid4().hex[:6]}/run.json"
        self._head = {
            "host": socket.gethostname(),
            "platform": platform.platform(),
            "cores": num_cores(),
            "runner": runner,
            "started_unix_s": self.started,
        }
        self._units: list[dict[str, object]] = []
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self.failures: list[UnitFailure] = []

    def add(self, outcome: UnitReport | UnitFailure) -> None:
        """Note a unit's end."""
        self._units.append(asdict(outcome))
        if isinstance(outcome, UnitFailure):
            self.failures.append(outcome)
            return
        for stage, spent in outcome.seconds.items():
            self.seconds[stage] += spent

    def publish(self) -> None:
        """Write the file."""
        document = {
            **self._head,
            "wall_s": round(time.time() - self.started, 3),
            "stage_seconds": {stage: round(spent, 3) for stage, spent in self.seconds.items()},
            "units": self._units,
        }
        with self._folder.publish(self.name) as stream:
            stream.write(json.dumps(document, indent=1).encode() + b"\n")
