"""fsspec filesystems in the process that uses them."""

from __future__ import annotations

from typing import cast

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem


def filesystem_here(filesystem: AbstractFileSystem) -> AbstractFileSystem:
    """The same filesystem for use in this process and thread.

    A child process must not use its parent's: those of S3, GCS and HTTP refuse to work after a fork. fsspec keeps
    instances by process, so that this is a look-up (some 20 us) except in the first call.
    """
    if isinstance(filesystem, LocalFileSystem):
        return filesystem
    return cast(AbstractFileSystem, type(filesystem)(*filesystem.storage_args, **filesystem.storage_options))
