"""Random access to stored records: a member's bytes by the offset and length in its index row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy.typing as npt

from dad_datasets.decoding import UndecodableImageError
from dad_datasets.errors import UserError
from dad_datasets.folder import Folder
from dad_datasets.image_codec import decode_canvas
from dad_datasets.layout import shard_name
from dad_datasets.record import read_npy
from dad_datasets.views import Canvas

LARGEST_MEMBER_BYTES = 2**28
"""An uncompressed canvas of 8192 pixels a side has 192 MiB."""


class ShardReader:
    """Members of one shard's records; rows are those of the shard's index."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name

    def member(self, row: Mapping[str, Any], column: str) -> bytes:
        """The content of a member by its column stem ("image", "cls", "teacher", "codes", "clean", "json").

        KeyError where the dataset stores no such member; UserError where the tar ends before it, or it is too large.
        """
        offset, length = row[f"{column}_offset"], row[f"{column}_length"]
        check_member_size(length, lambda: f"{self._name}: the {column} of {row['key']}")
        self._stream.seek(max(offset, 0))
        content = self._stream.read(length)
        if len(content) != length or offset < 0:
            raise UserError(f"{self._name}: ends before the {column} of {row['key']}: the shard is truncated")
        return content

    def canvas(self, row: Mapping[str, Any], column: str = "image") -> Canvas:
        """An image member's pixels. UserError where it cannot be decoded."""
        try:
            return decode_canvas(self.member(row, column))
        except UndecodableImageError as error:
            raise UserError(f"{self._name}: the {column} of {row['key']} cannot be decoded: {error}") from None

    def array(self, row: Mapping[str, Any], column: str) -> npt.NDArray[Any]:
        """A .npy member. UserError where it is none."""
        try:
            return read_npy(self.member(row, column))
        except ValueError as error:
            raise UserError(f"{self._name}: the {column} of {row['key']} is no array: {error}") from None


def check_member_size(length: int, member: Callable[[], str]) -> None:
    """UserError where an index asks for more bytes than any record has: they would be read before anything is seen.

    `member` names it for the message, which is seldom needed and dear beside a read of a kilobyte.
    """
    if not 0 <= length <= LARGEST_MEMBER_BYTES:
        raise UserError(f"{member()} should have {length:,} bytes; members have 0 to {LARGEST_MEMBER_BYTES:,}")


@contextmanager
def open_shard(folder: Folder, unit: str) -> Iterator[ShardReader]:
    """The shard of a unit. UserError where it is missing."""
    name = shard_name(unit)
    try:
        stream = folder.open(name)
    except FileNotFoundError:
        raise UserError(f"{folder.url}/{name}: the shard is missing") from None
    with stream:
        yield ShardReader(stream, f"{folder.url}/{name}")
