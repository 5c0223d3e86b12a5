"""A `docker` that runs a container's command on this machine, in a folder where the mounts are links."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAM = """#!{python}
import json, os, pathlib, subprocess, sys, tempfile

arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(arguments) + chr(10))
if arguments[0] == "image":
    sys.exit(arguments[2] in {missing!r})
if arguments[0] != "run":
    sys.exit(0)
root = pathlib.Path(tempfile.mkdtemp(dir={folder!r}))
takes_value = {{"--volume", "--user", "--shm-size", "--gpus"}}
position = 1
while arguments[position].startswith("--"):
    if arguments[position] == "--volume":
        host, inside = arguments[position + 1].split(":")[:2]
        (root / pathlib.Path(inside).relative_to("/dad")).symlink_to(host)
    position += 2 if arguments[position] in takes_value else 1
sys.exit(subprocess.run(arguments[position + 1 :], cwd=root).returncode)
"""


class FakeDocker:
    """The program in a folder of its own, and what it was called with; it has every image but those `missing`."""

    def __init__(self, folder: Path, *, missing: Sequence[str] = ()) -> None:
        self._log = folder / "docker.log"
        self._bin = folder / "bin"
        self._bin.mkdir()
        places = {"log": str(self._log), "folder": str(folder)}
        self._write("docker", PROGRAM.format(python=sys.executable, missing=list(missing), **places))
        # No link: an interpreter finds its virtual environment beside the name that it was called by.
        self._write("python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')

    def _write(self, name: str, program: str) -> None:
        path = self._bin / name
        path.write_text(program)
        path.chmod(0o755)

    def environment(self) -> dict[str, str]:
        """This process's, where `docker` is the fake and `python` this interpreter."""
        return os.environ | {"PATH": f"{self._bin}:{os.environ['PATH']}"}

    def calls(self, action: str) -> list[list[str]]:
        """The arguments of each `docker ACTION`, in order."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [arguments for arguments in map(json.loads, lines) if arguments[0] == action]
