"""Whole files sent to and fetched from remote filesystems, with bounded retries."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fsspec import AbstractFileSystem

from dad_datasets.store_errors import StoreError, plainly_told

TRIES = 2
"""Of a whole file, over the client's own retries of each request: the bytes are here, and were dear to compute."""

PART_BYTES = 16 * 2**20
PARTS_AT_ONCE = 4
MOST_PARTS = 10_000  # in one S3 upload

_OPEN_FILES = Path("/proc/self/fd")


@contextmanager
def spool() -> Iterator[tuple[IO[bytes], str]]:
    """A local file to write, and a path that opens it again. It goes with the process, however that ends."""
    if not _OPEN_FILES.is_dir():
        with tempfile.NamedTemporaryFile(prefix="dad-") as named:
            yield named, named.name
        return
    with tempfile.TemporaryFile() as nameless:
        yield nameless, str(_OPEN_FILES / str(nameless.fileno()))


def send_file(filesystem: AbstractFileSystem, local: str, path: str) -> None:
    """One PUT, or a multipart upload that is completed last: readers see the whole file or none of it.

    UserError and StoreError as of `plainly_told`.
    """
    url = str(filesystem.unstrip_protocol(path))
    options: dict[str, int] = {}
    if is_s3(filesystem):
        part = max(PART_BYTES, -(-os.path.getsize(local) // MOST_PARTS))
        options = {"chunksize": part, "max_concurrency": PARTS_AT_ONCE}  # s3fs's own would keep 500 MB in memory
    # A completion whose answer was lost leads to "no such upload" when it is asked for again: FileNotFoundError.
    _several_times(lambda: filesystem.put_file(local, path, **options), url, mended=(StoreError, FileNotFoundError))


def fetch_file(filesystem: AbstractFileSystem, path: str, local: str) -> None:
    """The whole file, written to a local path. FileNotFoundError where there is none; else as `send_file`."""
    url = str(filesystem.unstrip_protocol(path))
    # s3fs resumes a download that is cut off, but not one of over 50 MB, which it splits.
    _several_times(lambda: filesystem.get_file(path, local), url, mended=(StoreError,))


def is_s3(filesystem: AbstractFileSystem) -> bool:
    """Whether the filesystem is s3fs's."""
    protocols = filesystem.protocol
    return "s3" in ((protocols,) if isinstance(protocols, str) else protocols)


def _several_times(transfer: Callable[[], object], url: str, mended: tuple[type[OSError], ...]) -> None:
    for rest in reversed(range(TRIES)):
        try:
            with plainly_told(url):
                transfer()
        except mended:
            if not rest:
                raise
        else:
            return
