"""One run at a time in a folder: a lease with a heartbeat, which a killed run loses."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType

from dad_datasets.errors import UserError
from dad_datasets.layout import LEASE

HEARTBEAT_S = 5.0
EXPIRY_S = 60.0
"""A lease whose heartbeat is older belongs to a run that died on another host."""


class Lease:
    """Held as a context manager by the one run that writes to `folder`. UserError where another run lives there.

    The file names host and process, so that a run killed on this host is recognised at once; one killed elsewhere is
    taken over after EXPIRY_S without a heartbeat (the file's modification time).
    """

    def __init__(self, folder: Path, *, heartbeat_s: float = HEARTBEAT_S, expiry_s: float = EXPIRY_S) -> None:
        self._path = folder / LEASE
        self._heartbeat_s = heartbeat_s
        self._expiry_s = expiry_s
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease heartbeat", daemon=True)

    def __enter__(self) -> Lease:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while not self._create():
            holder = self._read()
            if holder is not None and self._alive(holder):
                raise UserError(
                    f"{self._path.parent} is being written by another run "
                    f"(process {holder['pid']} on {holder['host']}): wait for it, or stop it first"
                )
            self._evict()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._read() == self._owner:
            self._path.unlink(missing_ok=True)

    def _create(self) -> bool:
        # Written aside and linked: the name appears with its content, or not at all where it is taken.
        draft = self._path.with_name(f"{LEASE}-{self._owner['id']}")
        draft.write_text(json.dumps(self._owner))
        try:
            os.link(draft, self._path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def _evict(self) -> None:
        # Renaming has one winner where two runs find the same dead lease.
        grave = self._path.with_name(f"{LEASE}-dead-{self._owner['id']}")
        try:
            self._path.rename(grave)
        except FileNotFoundError:
            return
        grave.unlink()

    def _read(self) -> dict[str, str | int] | None:
        try:
            holder = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return holder if isinstance(holder, dict) and {"host", "pid", "id"} <= holder.keys() else None

    def _alive(self, holder: dict[str, str | int]) -> bool:
        if holder["host"] == self._owner["host"]:
            return _process_lives(int(holder["pid"]))
        try:
            return time.time() - self._path.stat().st_mtime < self._expiry_s
        except FileNotFoundError:
            return False

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat_s):
            try:
                os.utime(self._path)
            except OSError:
                return  # the folder was removed under us; the next write will say so


def _process_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
