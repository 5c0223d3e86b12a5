"""A local file, or one on whatever fsspec opens (s3://, gs://, ...)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from fsspec.core import url_to_fs

from dad_datasets.errors import UserError
from dad_datasets.store_errors import StoreError, plainly_told
from dad_pipeline.fetching.origin import BrokenTransferError, NotThereError, Offer

CHUNK_BYTES = 2**20


class FilesystemOrigin:
    """A file that can be read from anywhere in it."""

    def __init__(self, address: str) -> None:
        self.address = address

    @contextmanager
    def open(self, start: int, validator: str | None) -> Iterator[Offer]:
        try:
            with plainly_told(self.address):
                filesystem, path = url_to_fs(self.address)
                found = filesystem.info(path)
                if found["type"] == "directory":
                    raise UserError(f"{self.address}: is a folder, a file was expected")
                now = str(filesystem.ukey(path))
                start = start if validator in (None, now) else 0
                stream = filesystem.open(path, "rb")
        except FileNotFoundError:
            raise NotThereError(f"{self.address}: no such file") from None
        except StoreError as error:
            raise BrokenTransferError(self._reason(error)) from None
        except (ImportError, ValueError) as error:  # a protocol that is not installed, or none at all
            raise error if isinstance(error, UserError) else UserError(f"{self.address}: {error}") from None
        except OSError as error:
            raise UserError(f"{self.address}: cannot be opened: {error.strerror or error}") from None
        with stream:
            yield Offer(
                start=start,
                total_bytes=found["size"],
                validator=now,
                sha256=None,
                chunks=self._chunks(stream, start),
            )

    def _chunks(self, stream: IO[bytes], start: int) -> Iterator[bytes]:
        try:
            with plainly_told(self.address):
                stream.seek(start)
                while chunk := stream.read(CHUNK_BYTES):
                    yield chunk
        except OSError as error:
            raise BrokenTransferError(f"cannot be read: {self._reason(error)}") from None

    def _reason(self, error: OSError) -> str:
        return error.strerror or str(error).removeprefix(f"{self.address}: ")
