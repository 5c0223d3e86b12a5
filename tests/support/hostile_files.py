"""Files that somebody made to do harm, and what shows whether they did."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO


class Payload:
    """Pickles into a call that makes the folder `trace`."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def member(name: str, content: bytes = b"", **fields: object) -> bytes:
    """One tar member, whatever its name; `fields` are those of tarfile.TarInfo."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def sample(key: str, image: bytes, label: bytes = b"1") -> bytes:
    """An image and its label."""
    return member(f"{key}.jpg", image) + member(f"{key}.cls", label)


def write_tar(path: Path, members: Iterable[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(members) + bytes(2 * tarfile.BLOCKSIZE))
    return path


def write_hole(stream: BinaryIO, num_bytes: int) -> None:
    """Zeros that take no room on the disk; they must not be the last thing in the file."""
    stream.seek(num_bytes, os.SEEK_CUR)


def files_below(root: Path, *, but: Path | None = None) -> dict[str, bytes | str]:
    """Every file below `root`, what is in `but` left out; links by what they point to."""
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if (path.is_symlink() or path.is_file()) and (but is None or but not in path.parents)
    }


def damaged(content: bytes, changes: Sequence[tuple[float, int]], kept: float = 1.0) -> bytes:
    """`content` with bytes at relative places replaced, and what follows the share `kept` cut off."""
    result = bytearray(content)
    for place, value in changes:
        result[int(place * len(result))] = value
    return bytes(result[: int(kept * len(result))])
