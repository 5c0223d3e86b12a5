"""Random access to remote files: each is copied whole into a bounded local folder when it is first read."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fsspec import AbstractFileSystem

from dad_datasets.cache_folder import CacheFolder, default_cache_folder
from dad_datasets.errors import UserError
from dad_datasets.filesystems import filesystem_here
from dad_datasets.store_errors import StoreError, plainly_told
from dad_datasets.transfers import fetch_file

_VERSION_FIELDS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
"""What filesystems call that which changes when a file is written again."""


class CachedFiles:
    """Files of one remote filesystem, read from their local copies. Equal files of several objects share one copy.

    The copy of a file that was written again is another one, unless this process has read the earlier one: a run keeps
    to what it began with.
    """

    def __init__(self, filesystem: AbstractFileSystem, folder: Path | None, limit_bytes: int) -> None:
        """`folder` None: the user's cache folder."""
        self._filesystem = filesystem
        self._cache = CacheFolder(folder or default_cache_folder(), limit_bytes)
        self._known: dict[str, tuple[str, int]] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_known": {}}

    def read(self, path: str, offset: int, length: int) -> bytes:
        """The bytes from `offset`, fewer than `length` where the file ends. Raises as `open`."""
        with self.open(path) as copy:
            return os.pread(copy.fileno(), length, offset)

    def open(self, path: str) -> BinaryIO:
        """The local copy, seekable. FileNotFoundError where there is no such file; UserError where it cannot be had."""
        if path in self._known and (copy := self._cache.opened(*self._known[path])) is not None:
            return copy
        filesystem = filesystem_here(self._filesystem)
        url = filesystem.unstrip_protocol(path)
        with plainly_told(url):
            details = filesystem.info(path)
        if details["size"] is None:
            raise UserError(f"{url}: its server does not tell its size; copy the dataset to a local disk")
        size = int(details["size"])
        version = [str(details[field]) for field in _VERSION_FIELDS if field in details]
        name = _copy_name(url, size, version)
        try:
            copy = self._cache.fetched(name, size, lambda local: fetch_file(filesystem, path, str(local)), origin=url)
        except (FileNotFoundError, StoreError):
            raise
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{url}: cannot be copied to the cache folder {self._cache.folder}: {reason}") from None
        self._known[path] = (name, size)
        return copy


def _copy_name(url: str, size: int, version: list[str]) -> str:
    """32 hex digits of what identifies the content, and the file's name for whoever looks into the folder."""
    identity = json.dumps([url, size, version]).encode()
    return f"{hashlib.sha256(identity).hexdigest()[:32]}-{PurePosixPath(url).name[-100:]}"
