"""Room in a bounded folder of copies: reserved before a copy is fetched, made by evicting the least recently read."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

TICKET_SUFFIX = ".ticket"
PART_SUFFIX = ".part"
_LOCK = ".lock"
_COPY = re.compile(r"[0-9a-f]{32}-.*", re.DOTALL)  # nothing else in the folder is ever removed


def make_room(folder: Path, limit_bytes: int, ticket: IO[bytes], size: int) -> None:
    """Reserve `size` bytes (at most `limit_bytes`) for the holder of a ticket, which must be locked and empty.

    The ticket is a sparse file whose length is the reservation. Where other reservations leave too little room, waits
    for one of them to end; who waits has reserved nothing itself, so that no two wait for each other.
    """
    while True:
        with _folder_locked(folder):
            copies, tickets = _survey(folder)
            used = sum(copy_size for _, copy_size, _ in copies) + sum(tickets.values())
            for _, copy_size, copy in copies:
                if used + size <= limit_bytes:
                    break
                copy.unlink(missing_ok=True)  # whoever reads it keeps an open file
                used -= copy_size
            if used + size <= limit_bytes:
                os.ftruncate(ticket.fileno(), size)
                return
        _wait_for(next(iter(tickets)))


def put_in_place(temporary: Path, copy: Path) -> None:
    """Rename what was fetched. Not during a survey, which could then see neither the reservation nor the copy."""
    with _folder_locked(copy.parent):
        temporary.replace(copy)


@contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    with (folder / _LOCK).open("ab") as lock, locked(lock):
        yield


@contextmanager
def locked(file: IO[bytes], how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """The file's lock, given back at the end even where a process forked meanwhile has inherited the handle."""
    fcntl.flock(file, how)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def is_at(path: Path, file: IO[bytes]) -> bool:
    """Whether `path` still is the open `file`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _survey(folder: Path) -> tuple[list[tuple[int, int, Path]], dict[Path, int]]:
    """(time of the last read, bytes, path) of all copies, the oldest first; reserved bytes by ticket."""
    copies: list[tuple[int, int, Path]] = []
    tickets: dict[Path, int] = {}
    for path in folder.iterdir():
        if not _COPY.fullmatch(path.name) or path.name.endswith(PART_SUFFIX):
            continue
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if not path.name.endswith(TICKET_SUFFIX):
            copies.append((status.st_mtime_ns, status.st_size, path))
        elif status.st_size and not _removed_if_dead(path):
            tickets[path] = status.st_size
    return sorted(copies), tickets


def _removed_if_dead(ticket: Path) -> bool:
    """Remove a ticket, and what was fetched for it, whose process was killed: its lock is free."""
    try:
        with ticket.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(ticket, file):
                ticket.with_suffix(PART_SUFFIX).unlink(missing_ok=True)
                ticket.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    return True


def _wait_for(ticket: Path) -> None:
    try:
        with ticket.open("rb") as file, locked(file, fcntl.LOCK_SH):
            pass
    except FileNotFoundError:
        pass
