"""The real `dad` command in a process of its own, under signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

DAD = str(Path(sys.executable).with_name("dad"))
PATIENCE_S = 240.0


@contextmanager
def dad_process(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own, which is killed in the end; its output is one stream."""
    process = subprocess.Popen(
        [DAD, *arguments],
        env={**(environment or os.environ), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until `condition` holds; AssertionError where the process ends before."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def require_group_gone(process: subprocess.Popen[str], *, within_s: float) -> None:
    """AssertionError where somebody of the process's group still lives after so long."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline, f"process group {process.pid} lives on"
        time.sleep(0.05)
