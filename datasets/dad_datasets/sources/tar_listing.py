"""The members of a tar from its headers alone: names, offsets and lengths, with no data read.

Written here instead of taken from `tarfile` because it must be quick (millions of headers), must tell a tar that was
cut off from one that ended, and must not be led astray by hostile headers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_BLOCK = 512
_LARGEST_EXTENSION_BYTES = 2**20
_REGULAR = frozenset({b"0", b"\0", b"7"})
_WITHOUT_DATA = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"


class TarMember(NamedTuple):
    """One member; `offset` and `size` of its data in bytes. `problem` says why it must not be used, or is empty."""

    name: str
    offset: int
    size: int
    problem: str


class DamagedTarError(ValueError):
    """The file is not a tar, or is cut off; the message says where."""


def walk_tar(file: BinaryIO, file_size: int) -> Iterator[TarMember]:
    """All members of a plain (ustar, pax or GNU) tar in order, folders left out. Reads headers only, by seeking.

    Links, devices and unsafe names come with a problem. DamagedTarError for what is no tar or was cut off, also where
    only the closing blocks are missing: then members may be missing too.
    """
    position = 0
    overrides: dict[str, str] = {}  # of the next member, from pax and GNU extension headers
    while True:
        header = _read(file, position, _BLOCK)
        if not header.strip(b"\0") and len(header) == _BLOCK:
            return
        if len(header) < _BLOCK:
            raise DamagedTarError(f"cut off at byte {position + len(header):,}")
        _check_sum(header, position)
        kind = header[156:157]
        size = _pax_size(overrides) if "size" in overrides else _number(header[124:136], position)
        data = position + _BLOCK
        length = 0 if kind in _WITHOUT_DATA else size
        if kind == b"S":
            data = _behind_sparse_map(file, header, data)
        if data + length > file_size:
            raise DamagedTarError(f"cut off inside the member at byte {position:,}")
        position = data + -(-length // _BLOCK) * _BLOCK
        if kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL):
            if size > _LARGEST_EXTENSION_BYTES:
                raise DamagedTarError(f"an extension header of {size:,} bytes at byte {data - _BLOCK:,}")
            if kind == _LONG_NAME:
                overrides["path"] = _text(_read(file, data, size).partition(b"\0")[0])
            elif kind == _PAX:
                overrides |= _pax_records(_read(file, data, size))
            continue
        name = overrides.get("path") or _header_name(header)
        sparse = kind == b"S" or any(field.startswith("GNU.sparse.") for field in overrides)
        overrides = {}
        if kind == b"5" or name.endswith("/"):
            continue
        if sparse:
            problem = "member is sparse"
        else:
            problem = name_problem(name) if kind in _REGULAR else "member is a link or a device"
        yield TarMember(name.removeprefix("./"), data, length, problem)


def name_problem(name: str) -> str:
    """Why a member of this name must not be used, or an empty string."""
    return "unsafe member name" if name.startswith("/") or ".." in name.split("/") or "\0" in name else ""


def _read(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)


def _check_sum(header: bytes, position: int) -> None:
    expected = _number(header[148:156], position)
    around = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(around)
    signed = unsigned - 256 * sum(byte > 127 for byte in around) if unsigned != expected else unsigned  # old writers
    if expected not in (unsigned, signed):
        raise DamagedTarError(f"no tar header at byte {position:,}")


def _number(field: bytes, position: int) -> int:
    """An octal field, or GNU's base-256 for what does not fit."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        number = int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        number = -1
    if number < 0:
        raise DamagedTarError(f"no tar header at byte {position:,}")
    return number


def _header_name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    # GNU's own magic is "ustar  ": it keeps times where POSIX keeps the prefix.
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _pax_records(payload: bytes) -> dict[str, str]:
    """The "LENGTH KEY=VALUE newline" records of a pax header; what does not parse is left out."""
    records: dict[str, str] = {}
    start = 0
    while start < len(payload):
        digits = payload[start : start + 10].partition(b" ")[0]
        length = int(digits) if digits.isdigit() and len(digits) < 10 else 0
        if not len(digits) < length <= len(payload) - start:
            break
        field, _, value = payload[start + len(digits) + 1 : start + length - 1].partition(b"=")
        records[_text(field)] = _text(value)
        start += length
    return records


def _pax_size(records: dict[str, str]) -> int:
    """A size beyond what a file can have where the record is no number: the member is cut off then."""
    digits = records["size"]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else 2**63


def _behind_sparse_map(file: BinaryIO, header: bytes, position: int) -> int:
    """Where the data of a GNU sparse member begins: further blocks of its map may follow the header."""
    continued = header[482]
    while continued:
        block = _read(file, position, _BLOCK)
        if len(block) < _BLOCK:
            raise DamagedTarError(f"cut off at byte {position + len(block):,}")
        continued, position = block[504], position + _BLOCK
    return position


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
