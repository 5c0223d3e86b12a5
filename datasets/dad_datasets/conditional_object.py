"""One small object of an S3 bucket, written only where it is as the writer believes it to be."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from fsspec.asyn import sync

from dad_datasets.remote_folder import RemoteFolder
from dad_datasets.store_errors import StoreError, plainly_told, store_code

_REFUSED = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409", "NoSuchKey", "404"})
_READS = 5  # in which the answer may be cut off
_UNKNOWN = frozenset({"NotImplemented", "501"})


class NoConditionsError(Exception):
    """The store does not know conditional writes."""


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """What was read; `age_s` is the time since it was written, both ends of it by the server's clock."""

    content: bytes
    etag: str
    age_s: float


class ConditionalObject:
    """Errors are those of `plainly_told`.

    A write whose answer is lost is sent again by the client, and then refused because it had worked the first time:
    who is refused must read before it knows.
    """

    def __init__(self, folder: RemoteFolder, name: str) -> None:
        self.url = f"{folder.url}/{name}"
        self._folder = folder
        self._bucket, self._key, _ = folder.filesystem.split_path(f"{folder.root}/{name}")

    def read(self) -> StoredObject | None:
        """None where there is none."""
        try:
            answer, content = self._answer()
        except FileNotFoundError:
            return None
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        # A server that tells no time gives no reason to think that the object is old.
        now = answer["LastModified"] if date is None else parsedate_to_datetime(date)
        return StoredObject(content=content, etag=answer["ETag"], age_s=(now - answer["LastModified"]).total_seconds())

    def create(self, content: bytes) -> str | None:
        """The new ETag, or None where there is an object already. NoConditionsError."""
        return self._put(content, IfNoneMatch="*")

    def replace(self, content: bytes, etag: str) -> str | None:
        """The new ETag, or None where the object is no longer the one of `etag`. NoConditionsError."""
        return self._put(content, IfMatch=etag)

    def remove(self, etag: str) -> None:
        """Remove the object if it still is the one of `etag`."""
        try:
            with plainly_told(self.url):
                self._call("delete_object", IfMatch=etag)
        except OSError as error:
            if store_code(error) not in _REFUSED:
                raise

    def _answer(self) -> tuple[dict[str, Any], bytes]:
        """The answer to a GET, and the bytes that come with it, which the client does not ask for again by itself."""
        for rest in reversed(range(_READS)):
            with plainly_told(self.url):
                answer = self._call("get_object")
            try:
                with plainly_told(self.url):
                    return answer, sync(self._folder.filesystem.loop, answer["Body"].read)
            except StoreError:
                if not rest:
                    raise
        raise AssertionError("the last try returns or raises")

    def _put(self, content: bytes, **condition: str) -> str | None:
        try:
            with plainly_told(self.url):
                return str(self._call("put_object", Body=content, **condition)["ETag"])
        except OSError as error:
            code = store_code(error)
            if code in _REFUSED:
                return None
            if code in _UNKNOWN:
                raise NoConditionsError from None
            raise

    def _call(self, method: str, **fields: str | bytes) -> dict[str, Any]:
        answer: dict[str, Any] = self._folder.filesystem.call_s3(method, Bucket=self._bucket, Key=self._key, **fields)
        return answer
