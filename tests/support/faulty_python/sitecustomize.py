"""Loaded by every Python that has this folder in PYTHONPATH: a machine with a bad decoder, or with another disk."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

import PIL.Image

CRASHES, HANGS = b"this image crashes the decoder", b"this image hangs the decoder"

_open = PIL.Image.open


def _faulty_open(file: Any, *arguments: Any, **options: Any) -> PIL.Image.Image:
    content = file.getvalue() if hasattr(file, "getvalue") else b""
    if CRASHES in content:
        os.abort()
    while HANGS in content:
        time.sleep(1)
    return _open(file, *arguments, **options)


def _mount(source: str, target: str) -> None:
    """For this process alone: another folder, or an empty one ("tmpfs"), at `target`. Needs root."""
    new_namespace, private, bind = 0x20000, 0x44000, 0x1000
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.unshare(new_namespace) or libc.mount(b"none", b"/", None, private, None)
    if source == "tmpfs":
        failed = failed or libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", 0, None)
    else:
        failed = failed or libc.mount(os.fsencode(source), os.fsencode(target), None, bind, None)
    if failed:
        raise OSError(ctypes.get_errno(), f"cannot mount {source} at {target}")


PIL.Image.open = _faulty_open  # type: ignore[assignment]  # it takes what the real one takes
if mount := os.environ.get("FAULTY_MOUNT"):
    _mount(*mount.split(":"))
