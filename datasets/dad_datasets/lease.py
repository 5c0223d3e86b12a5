"""One run at a time in a folder: a lease with a heartbeat, which a killed run loses."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import threading
import time
import uuid
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dad_datasets.errors import UserError
from dad_datasets.folder import Folder, LocalFolder
from dad_datasets.layout import LEASE
from dad_datasets.object_lease import Claim, only_remote_writer
from dad_datasets.remote_folder import RemoteFolder

HEARTBEAT_S = 5.0
EXPIRY_S = 60.0
"""A lease whose heartbeat is older belongs to a run that died on another host."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


_HELD: set[IO[bytes]] = set()


def _let_go_in_child() -> None:
    # A forked child shares the lock, and would keep it after its parent was killed.
    for file in _HELD:
        file.close()
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


def only_writer(folder: Folder) -> AbstractContextManager[object]:
    """The lease of a dataset's folder. UserError where another run lives there."""
    if isinstance(folder, RemoteFolder):
        return only_remote_writer(folder, _warn)
    assert isinstance(folder, LocalFolder)
    return Lease(folder.path)


def lease_token(folder: Folder) -> str:
    """What the processes of a run show to write in `folder` under its lease; empty where they need nothing."""
    if isinstance(folder, LocalFolder):
        return _lease_in(folder)
    claim = folder.before_publishing if isinstance(folder, RemoteFolder) else None
    return claim.token if isinstance(claim, Claim) else ""


def under_lease(folder: Folder, token: str) -> Folder:
    """The same folder for a process of the run that holds the lease of `token`.

    A remote one publishes only while the lease holds; else LeaseLostError, a UserError. UserError where a local path
    leads this process to another folder than the run's, as on a machine that does not share its disk.
    """
    if token and isinstance(folder, RemoteFolder):
        folder.before_publishing = Claim(folder, token)
    elif token and isinstance(folder, LocalFolder) and _lease_in(folder) != token:
        raise UserError(
            f"{folder.path.absolute()} is not the output directory of the run, which has to be shared by all its "
            f"machines: there is no such {LEASE} in it here"
        )
    return folder


def _lease_in(folder: LocalFolder) -> str:
    try:
        return (folder.path / LEASE).read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)


class Lease:
    """Held as a context manager by the one run that writes to `folder`. UserError where another run lives there.

    The lease is a file that its holder keeps locked. The kernel drops the lock with the process, so that a run killed
    on this machine is recognised at once, whatever became of its process id; one killed on another machine (or on a
    filesystem without locks) is taken over after `expiry_s` without a heartbeat (the file's modification time).
    """

    def __init__(self, folder: Path, *, heartbeat_s: float = HEARTBEAT_S, expiry_s: float = EXPIRY_S) -> None:
        self._path = folder / LEASE
        self._heartbeat_s = heartbeat_s
        self._expiry_s = expiry_s
        self._file: IO[bytes] | None = None
        self._stop = threading.Event()

    def __enter__(self) -> Lease:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while (file := self._create()) is None:
            self._evict_dead()
        self._file = file
        _HELD.add(file)
        self._thread = threading.Thread(target=self._beat, args=(file.fileno(),), name="lease heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        _HELD.discard(self._file)
        self._stop.set()
        self._thread.join()
        with self._file as file:
            if self._is_at_path(file):
                self._path.unlink(missing_ok=True)

    def _create(self) -> IO[bytes] | None:
        # Written and locked aside, then linked: the name appears complete and held, or not at all where it is taken.
        draft = self._path.with_name(f"{LEASE}-{uuid.uuid4().hex}")
        file = draft.open("x+b", buffering=0)
        try:
            holder = {"host": socket.gethostname(), "pid": os.getpid(), "kernel": _kernel(), "locked": _lock(file)}
            file.write(json.dumps(holder).encode())
            _link(draft, self._path)
        except BaseException as error:
            file.close()
            if isinstance(error, FileExistsError):
                return None
            raise
        finally:
            draft.unlink(missing_ok=True)
        return file

    def _evict_dead(self) -> None:
        """Remove the lease that is there if its holder is dead, else raise UserError.

        Only who has locked a lease may remove it, and only while it still has the name: of two runs that find the same
        dead lease, the later one can neither remove the earlier one's new lease nor judge it dead.
        """
        try:
            file = self._path.open("r+b")
        except FileNotFoundError:
            return
        with file:
            holder = _parsed(file.read())
            lock = _lock(file)
            if lock is not None and not self._is_at_path(file):
                return
            dead = lock is not None and holder.get("locked") is True and holder.get("kernel") == _kernel()
            fresh = time.time() - os.fstat(file.fileno()).st_mtime < self._expiry_s
            if lock is None or (fresh and not dead):
                who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}"
                raise UserError(
                    f"{self._path.parent} is being written by another run ({who}): wait for it, or stop it first"
                )
            self._path.unlink(missing_ok=True)

    def _is_at_path(self, file: IO[bytes]) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def _beat(self, descriptor: int) -> None:
        # Through the descriptor: a run that slept past its expiry must not keep its successor's lease fresh.
        while not self._stop.wait(self._heartbeat_s):
            os.utime(descriptor)


def _link(draft: Path, final: Path) -> None:
    """Give `draft` its name where that is free. FileExistsError where it is taken."""
    try:
        os.link(draft, final)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # No hard links here: claim the name, then put the held file in the claim's place.
        os.close(os.open(final, os.O_CREAT | os.O_EXCL))
        os.replace(draft, final)


def _lock(file: IO[bytes]) -> bool | None:
    """True: locked for as long as `file` is open; None: another process has it; False: no locks on this filesystem."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
            return False
        raise
    return True


def _kernel() -> str:
    """What tells machines apart across which locks may not be seen: the boot's id, or the host's name without one."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return socket.gethostname()


def _parsed(content: bytes) -> dict[str, Any]:
    """The holder in a lease file; empty where the file is none of ours."""
    try:
        holder = json.loads(content)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
