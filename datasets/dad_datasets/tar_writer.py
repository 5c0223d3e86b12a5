"""Plain tar files with deterministic bytes, which remember where each member's content stands."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from typing import IO


@dataclass(frozen=True)
class Span:
    """Where a member's content stands in its tar, in bytes."""

    offset: int
    length: int


class TarWriter:
    """Appends members to a stream in the USTAR dialect: no times, no owners, names of at most 100 bytes.

    The stream's owner publishes it or throws it away: a TarWriter that is left half-way writes no end mark and leaves
    nothing at a final name (webdataset's own writer, used as a context manager, would).
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def add(self, name: str, content: bytes) -> Span:
        """Append one member and say where its content stands."""
        member = tarfile.TarInfo(name)
        member.size = len(content)
        member.mode = 0o644
        self._write(member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
        span = Span(self.size_bytes, len(content))
        self._write(content)
        self._write(bytes(-len(content) % tarfile.BLOCKSIZE))
        return span

    def finish(self) -> str:
        """Write the end mark; the SHA-256 of all bytes as hex."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self.size_bytes % tarfile.RECORDSIZE))
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self.size_bytes += len(data)
