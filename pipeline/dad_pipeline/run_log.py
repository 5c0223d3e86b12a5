"""`runs/<id>/`: what happened, outside every byte comparison - host, times, one line a unit, failures."""

from __future__ import annotations

import json
import platform
import shutil
import socket
import tempfile
import time
import uuid
from dataclasses import asdict

from dad_datasets.folder import Folder
from dad_datasets.layout import RUNS
from dad_pipeline.models import num_cores
from dad_pipeline.shard_generation import STAGES, UnitReport
from dad_pipeline.worker import UnitFailure


class RunLog:
    """Collects the events of one run and publishes them as `runs/<id>/run.json` when it ends, however it ends.

    The units' lines wait in a temporary file: memory does not grow with their number, but for failures.
    """

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
        self._units = tempfile.TemporaryFile()  # noqa: SIM115  # closed when it is published
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self.failures: list[UnitFailure] = []

    def add(self, outcome: UnitReport | UnitFailure) -> None:
        """Note a unit's end."""
        comma = b",\n" if self._units.tell() else b""
        self._units.write(comma + json.dumps(asdict(outcome)).encode())
        if isinstance(outcome, UnitFailure):
            self.failures.append(outcome)
            return
        for stage, spent in outcome.seconds.items():
            self.seconds[stage] += spent

    def publish(self) -> None:
        """Write the file."""
        head = {
            **self._head,
            "wall_s": round(time.time() - self.started, 3),
            "stage_seconds": {stage: round(spent, 3) for stage, spent in self.seconds.items()},
        }
        with self._folder.publish(self.name) as stream, self._units as units:
            stream.write(json.dumps(head, indent=1).encode().removesuffix(b"\n}") + b',\n "units": [\n')
            units.seek(0)
            shutil.copyfileobj(units, stream)
            stream.write(b"\n]}\n")
