"""A remote file read in blocks, of which the last few are kept."""

from __future__ import annotations

import io
from typing import IO, cast

from fsspec import AbstractFileSystem

from dad_datasets.store_errors import plainly_told

BLOCK_BYTES = 4 * 2**20
"""One request: enough to fill a fast line, little enough to skip large members."""

BLOCKS_KEPT = 8


class RemoteStream(io.RawIOBase):
    """A seekable file; raises what `plainly_told` says, in every read as when it is opened.

    fsspec's own way of reading fetches 50 MB of an S3 object wherever one seeks to; here going to and fro inside
    BLOCKS_KEPT blocks costs nothing, and going past a member larger than a block does not load it.
    """

    def __init__(self, filesystem: AbstractFileSystem, path: str) -> None:
        self._url = str(filesystem.unstrip_protocol(path))
        with plainly_told(self._url):
            self._file: IO[bytes] = filesystem.open(
                path,
                "rb",
                block_size=BLOCK_BYTES,
                cache_type="blockcache",
                cache_options={"maxblocks": BLOCKS_KEPT},
            )

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:
        with plainly_told(self._url):
            return self._file.read(-1 if size is None else size)

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        content = self.read(len(view))
        view[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
