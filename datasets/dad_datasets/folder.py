"""The folder of a dataset, local or remote: files appear in it whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Protocol

from dad_datasets.errors import UserError
from dad_datasets.layout import LABELS
from dad_datasets.remote_folder import RemoteFolder

TEMPORARY_PREFIX = ".tmp-"


class Folder(Protocol):
    """Files by relative name ("shards/a-00000.tar"). Names use "/" everywhere."""

    url: str

    def publish(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A binary file to write; it gets its name when the block ends well, and vanishes when it raises."""

    def open(self, name: str) -> IO[bytes]:
        """The file for reading, seekable. FileNotFoundError where there is none."""

    def exists(self, name: str) -> bool: ...

    def size(self, name: str) -> int:
        """Bytes. FileNotFoundError where there is none."""

    def names(self, subfolder: str) -> list[str]:
        """Sorted base names of the finished files right under `subfolder` ("": the folder itself), in one listing."""

    def subfolders(self, subfolder: str) -> list[str]:
        """Sorted base names of the folders right under `subfolder` ("": the folder itself), in one listing."""

    def remove(self, name: str) -> None: ...

    def sweep(self) -> int:
        """Remove what interrupted writers left under temporary names; how many. Only its single writer may call it."""


class LocalFolder:
    """A folder on a mounted filesystem: temporary name in the same directory, fsync, rename."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = str(path)

    @contextmanager
    def publish(self, name: str) -> Iterator[IO[bytes]]:
        final = self.path / name
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}-{final.name}")
        try:
            with temporary.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(final)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(
            final.parent
        )  # the rename itself must survive a power cut, before the next file claims it is there

    def open(self, name: str) -> IO[bytes]:
        return (self.path / name).open("rb")

    def exists(self, name: str) -> bool:
        return (self.path / name).exists()

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def names(self, subfolder: str) -> list[str]:
        try:
            entries = list(os.scandir(self.path / subfolder))
        except FileNotFoundError:
            return []
        return sorted(e.name for e in entries if e.is_file() and not e.name.startswith(TEMPORARY_PREFIX))

    def subfolders(self, subfolder: str) -> list[str]:
        try:
            return sorted(e.name for e in os.scandir(self.path / subfolder) if e.is_dir())
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        (self.path / name).unlink()
        sync_directory((self.path / name).parent)

    def sweep(self) -> int:
        found = [p for p in self.path.rglob(f"{TEMPORARY_PREFIX}*") if p.is_file()]
        stale = [p for p in found if LABELS not in p.relative_to(self.path).parts]  # each of which has its own writer
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)


def sync_directory(directory: Path) -> None:
    """Have the names in it, as they are now, survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_folder(url: str | Path) -> Folder:
    """The folder at a local path or an fsspec URL. It need not exist yet."""
    if isinstance(url, Path) or "://" not in url:
        return LocalFolder(Path(url).expanduser())
    if url.startswith("file://"):
        return LocalFolder(Path(url.removeprefix("file://")))
    return RemoteFolder(url)


def local_path(url: str, *, option: str) -> Path:
    """A path on a mounted filesystem. UserError for a URL, which would silently name a folder of that spelling."""
    if "://" in url:
        raise UserError(f"{option} {url}: a local path is needed here")
    return Path(url).expanduser()


def require_writable(folder: Folder) -> None:
    """UserError unless a file can be made in `folder` (and its directories created)."""
    probe = f"{TEMPORARY_PREFIX}probe-{uuid.uuid4().hex[:12]}"
    try:
        with folder.publish(probe) as stream:
            stream.write(b"dad")
        folder.remove(probe)
    except OSError as error:
        raise UserError(f"the output directory {folder.url} cannot be written: {error.strerror or error}") from None
