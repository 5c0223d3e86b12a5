"""Room on a disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from dad_datasets.errors import UserError


class NoRoomError(UserError):
    """The disk is too small: what has arrived is good, and stays for the next run."""


def require_room(folder: Path, num_bytes: int) -> None:
    """NoRoomError unless so many bytes are free on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise NoRoomError(f"{folder}: {num_bytes:,} bytes are needed, {free:,} are free on this disk")
