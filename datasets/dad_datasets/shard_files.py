"""The shards of a dataset for random access: local ones through memory maps, remote ones through a bounded cache."""

from __future__ import annotations

from pathlib import Path

from fsspec.core import url_to_fs

from dad_datasets.cache_folder import DEFAULT_CACHE_BYTES
from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder, open_folder
from dad_datasets.layout import shard_name
from dad_datasets.mapped_files import MappedFiles
from dad_datasets.shard_cache import CachedFiles
from dad_datasets.shard_reader import check_member_size
from dad_datasets.store_errors import StoreError


class ShardFiles:
    """Members of the shards in one dataset's folder. Picklable, and safe to use after a fork."""

    def __init__(
        self, folder_url: str | Path, cache: Path | None = None, cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        """`cache` holds copies of remote shards, at most `cache_bytes`; None: the user's cache folder."""
        folder = open_folder(folder_url)
        self._url = folder.url
        self._files: MappedFiles | CachedFiles
        if isinstance(folder, LocalFolder):
            self._root = str(folder.path)
            self._files = MappedFiles()
        else:
            filesystem, self._root = url_to_fs(folder.url)
            self._files = CachedFiles(filesystem, cache, cache_bytes)

    def read(self, unit: str, offset: int, length: int) -> bytes:
        """A member's content. UserError where the shard is missing, ends before the member, or cannot be fetched."""
        check_member_size(length, lambda: f"{self._named(unit)}: the member at byte {offset:,}")
        try:
            content = self._files.read(f"{self._root}/{shard_name(unit)}", max(offset, 0), length)
        except FileNotFoundError:
            raise UserError(f"{self._named(unit)}: the shard is missing") from None
        except StoreError as error:
            raise UserError(str(error)) from None
        except OSError as error:
            raise UserError(f"{self._named(unit)}: cannot be read: {error.strerror or error}") from None
        if len(content) != length or offset < 0:
            raise UserError(
                f"{self._named(unit)}: holds no {length:,} bytes at byte {offset:,}: the shard is truncated, "
                "or its index is of another"
            )
        return content

    def _named(self, unit: str) -> str:
        """For messages."""
        return f"{self._url}/{shard_name(unit)}"
