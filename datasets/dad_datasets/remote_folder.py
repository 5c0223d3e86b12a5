"""The folder of a dataset on an object store, through fsspec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, cast

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from dad_datasets.errors import UserError
from dad_datasets.filesystems import filesystem_here
from dad_datasets.layout import LABELS
from dad_datasets.remote_stream import RemoteStream
from dad_datasets.store_errors import plainly_told
from dad_datasets.transfers import is_s3, send_file, spool


class RemoteFolder:
    """A `Folder` whose files are spooled on a local disk, then sent whole. Errors are those of `plainly_told`."""

    def __init__(self, url: str) -> None:
        """UserError for a protocol that is unknown or not installed."""
        self.url = url.rstrip("/")
        try:
            # Without cached listings, which would hide what other processes publish.
            self._filesystem, self.root = url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            raise UserError(f"{url}: {error} (S3: pip install 'discrete-adversarial-distillation[s3]')") from None
        except ValueError as error:
            raise UserError(f"{url}: {error}") from None
        self.before_publishing: Callable[[], None] | None = None
        """Raises where this process must write no more; called when a file is about to be sent, or to be removed."""

    @property
    def filesystem(self) -> AbstractFileSystem:
        """For use in this process."""
        return filesystem_here(self._filesystem)

    @contextmanager
    def publish(self, name: str) -> Iterator[IO[bytes]]:
        with spool() as (stream, local):
            yield stream
            stream.flush()
            if self.before_publishing is not None:
                self.before_publishing()
            send_file(self.filesystem, local, f"{self.root}/{name}")

    def open(self, name: str) -> IO[bytes]:
        return cast(IO[bytes], RemoteStream(self.filesystem, f"{self.root}/{name}"))

    def exists(self, name: str) -> bool:
        # Not the filesystem's `exists`: some take every failure for an absent file.
        try:
            self.size(name)
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        with plainly_told(f"{self.url}/{name}"):
            return int(self.filesystem.info(f"{self.root}/{name}")["size"])

    def names(self, subfolder: str) -> list[str]:
        return self._listed(subfolder, "file")

    def subfolders(self, subfolder: str) -> list[str]:
        return self._listed(subfolder, "directory")

    def _listed(self, subfolder: str, kind: str) -> list[str]:
        path = f"{self.root}/{subfolder}".rstrip("/")
        try:
            with plainly_told(f"{self.url}/{subfolder}".rstrip("/")):
                names = [found[len(path) :].strip("/") for found, its_kind in self._entries(path) if its_kind == kind]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name and "/" not in name)  # no marker of the folder itself

    def _entries(self, path: str) -> Iterator[tuple[str, str]]:
        """Path and kind of what is right under `path`; from S3 page by page, for s3fs keeps a kilobyte of each."""
        filesystem = self.filesystem
        if not is_s3(filesystem):
            yield from ((entry["name"], entry["type"]) for entry in filesystem.ls(path, detail=True))
            return
        bucket, prefix, _ = filesystem.split_path(f"{path}/")
        request = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/", **filesystem.req_kw}
        while True:
            page = filesystem.call_s3("list_objects_v2", **request)
            yield from ((f"{bucket}/{entry['Key']}", "file") for entry in page.get("Contents", ()))
            yield from ((f"{bucket}/{entry['Prefix']}", "directory") for entry in page.get("CommonPrefixes", ()))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def remove(self, name: str) -> None:
        if self.before_publishing is not None:
            self.before_publishing()
        with plainly_told(f"{self.url}/{name}"):
            self.filesystem.rm_file(f"{self.root}/{name}")

    def sweep(self) -> int:
        """Give up multipart uploads that were never completed: nobody can see them, but they are paid for."""
        filesystem = self.filesystem
        if not is_s3(filesystem):
            return 0
        bucket, prefix, _ = filesystem.split_path(f"{self.root}/")
        swept = 0
        with suppress(OSError, UserError):  # a right that a run needs for nothing else; the bucket's own rule may sweep
            with plainly_told(self.url):
                listed = filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
            for upload in listed.get("Uploads", ()):
                if LABELS in upload["Key"][len(prefix) :].split("/"):
                    continue  # those have their own writers
                with plainly_told(self.url):
                    filesystem.call_s3(
                        "abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                swept += 1
        return swept
