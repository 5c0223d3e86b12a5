"""The hash by which a consumer tells whether it has the same clean data."""

from __future__ import annotations

import hashlib


class CleanHash:
    """sha256 over (source_key, source_sha256) of every clean sample, failed ones too, in the order of the source.

    Per sample it takes the key in UTF-8, a zero byte, and the 32 bytes of the image file's own sha256.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, source_key: str, source_sha256: bytes) -> None:
        assert len(source_sha256) == 32, len(source_sha256)
        self._digest.update(source_key.encode() + b"\0" + source_sha256)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
