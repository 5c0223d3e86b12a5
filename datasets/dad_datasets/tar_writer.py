"""Plain tar files with deterministic bytes, which remember where each member's content stands."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from typing import IO

from dad_datasets.keys import MAX_MEMBER_NAME_BYTES

LARGEST_MEMBER_BYTES = 8**11 - 1
"""What the size field of a header holds."""


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
        """Append one member and say where its content stands. ValueError for a name that no header holds."""
        span = Span(self.size_bytes + tarfile.BLOCKSIZE, len(content))
        # In one piece: small writes cost more than the copy.
        self._write(b"".join((_header(name, len(content)), content, bytes(-len(content) % tarfile.BLOCKSIZE))))
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


def _blank_header() -> bytes:
    member = tarfile.TarInfo()
    member.mode = 0o644
    return member.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


# tarfile takes 40 us for a header, of which only the name, the size and the checksum differ between members.
_OWNER, _SIZE, _TIME, _CHECKSUM, _TYPE = 100, 124, 135, 148, 156
_BLANK = _blank_header()
_BLANK_SUM = sum(_BLANK[_OWNER:_SIZE]) + sum(_BLANK[_TIME:_CHECKSUM]) + 8 * ord(" ") + sum(_BLANK[_TYPE:])


def _header(name: str, size: int) -> bytes:
    """The header of a plain file, as tarfile writes it. ValueError where the name or the size does not fit."""
    encoded, digits = name.encode("ascii"), b"%011o" % size
    if len(encoded) > MAX_MEMBER_NAME_BYTES or size > LARGEST_MEMBER_BYTES:
        raise ValueError(f"no tar header holds a member {name!r} of {size:,} bytes")
    checksum = _BLANK_SUM + sum(encoded) + sum(digits)
    return b"".join(
        (
            encoded.ljust(_OWNER, b"\0"),
            _BLANK[_OWNER:_SIZE],
            digits,
            _BLANK[_TIME:_CHECKSUM],
            b"%06o\0 " % checksum,
            _BLANK[_TYPE:],
        )
    )
