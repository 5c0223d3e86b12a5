"""A bounded folder of local copies, shared by any number of processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dad_datasets.cache_room import PART_SUFFIX, TICKET_SUFFIX, is_at, locked, make_room, put_in_place
from dad_datasets.errors import UserError

DEFAULT_CACHE_BYTES = 64 * 2**30


def default_cache_folder() -> Path:
    """`dad/shards` in the user's cache folder, by the XDG convention."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dad" / "shards"


class CacheFolder:
    """Copies by name, at most `limit_bytes` with those that are being fetched; the least recently read go first.

    A copy appears whole or not at all (temporary name, fsync, rename). Of the processes that want the same one, only
    one fetches it, the holder of its ticket: a file beside it that is locked, and the lock goes with the process. A
    copy may be evicted while somebody reads it: an open file keeps its content until it is closed.

    Copies are opened for each read instead of staying mapped (some 10 us against the milliseconds of decoding an
    image): space on the disk comes back only when the last handle of an evicted file is closed.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes

    def opened(self, name: str, size: int) -> BinaryIO | None:
        """The copy, marked as just used, or None where there is none of `size` bytes."""
        try:
            copy = (self.folder / name).open("rb", buffering=0)
        except FileNotFoundError:
            return None
        if os.fstat(copy.fileno()).st_size != size:
            copy.close()
            return None
        now = time.time_ns()  # finer than the kernel's own clock for files
        os.utime(copy.fileno(), ns=(now, now))
        return copy

    def fetched(self, name: str, size: int, fetch: Callable[[Path], None], *, origin: str) -> BinaryIO:
        """The copy of `origin`; where there is none yet, `fetch` writes it to the path that it is given.

        `name` begins with 32 hex digits and a dash. UserError where `size` is over the bound, or what was fetched has
        another size.
        """
        if size > self.limit_bytes:
            raise UserError(
                f"{origin}: has {size:,} bytes, more than the cache may hold ({self.limit_bytes:,}): "
                "raise compute.cache_gb of the training recipe (cache_bytes of open_pairs), or copy the dataset to a "
                "local disk"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            if (copy := self.opened(name, size)) is not None:
                return copy
            with self._ticket(name) as ticket:
                # Where another process had the ticket until now, the copy may be there; then ask again.
                if ticket is not None and not self._is_there(name, size):
                    make_room(self.folder, self.limit_bytes, ticket, size)
                    return self._fetch(name, size, fetch, origin)

    def _is_there(self, name: str, size: int) -> bool:
        try:
            return (self.folder / name).stat().st_size == size
        except FileNotFoundError:
            return False

    def _fetch(self, name: str, size: int, fetch: Callable[[Path], None], origin: str) -> BinaryIO:
        temporary = self.folder / f"{name}{PART_SUFFIX}"
        try:
            fetch(temporary)
            copy = temporary.open("rb", buffering=0)
            found = os.fstat(copy.fileno()).st_size
            if found != size:
                copy.close()
                raise UserError(f"{origin}: {found:,} bytes arrived of {size:,}")
            os.fsync(copy.fileno())
            put_in_place(temporary, self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)
        # Opened before it got its name, so that no other process can evict it unread.
        return copy

    @contextmanager
    def _ticket(self, name: str) -> Iterator[BinaryIO | None]:
        """Waits for the right to fetch `name`; None where the ticket was given up meanwhile."""
        path = self.folder / f"{name}{TICKET_SUFFIX}"
        with path.open("ab") as ticket, locked(ticket):
            if not is_at(path, ticket):
                yield None
                return
            try:
                os.ftruncate(ticket.fileno(), 0)  # the reservation of a process that was killed
                yield ticket
            finally:
                path.unlink(missing_ok=True)
