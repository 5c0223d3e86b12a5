"""The files of a source, found on any filesystem: a folder, a file, a glob or a brace range."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from dad_datasets.errors import UserError
from dad_datasets.filesystems import filesystem_here
from dad_datasets.remote_stream import RemoteStream
from dad_datasets.sources.brace_ranges import expand_braces
from dad_datasets.store_errors import StoreError, plainly_told


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One file: `path` within `filesystem`, `name` relative to the source's root with "/", `size` in bytes."""

    filesystem: AbstractFileSystem
    path: str
    name: str
    size: int

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, LocalFileSystem)

    def open(self) -> BinaryIO:
        """The file's bytes, seekable. UserError where it cannot be opened."""
        return open_file(self.filesystem, self.path)


def open_file(filesystem: AbstractFileSystem, path: str) -> BinaryIO:
    """`path` opened for reading; local files directly, without a layer of Python in between.

    UserError where it cannot be opened; StoreError, then or in a later read, where a store fails for the moment.
    """
    try:
        if isinstance(filesystem, LocalFileSystem):
            return open(path, "rb")
        return cast(BinaryIO, RemoteStream(filesystem_here(filesystem), path))
    except StoreError:
        raise
    except OSError as error:
        raise UserError(f"source file {path}: cannot be opened: {error.strerror or error}") from None


def filesystem_of(path: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a path or URL, and the path within it. UserError for an unknown or uninstalled protocol."""
    try:
        filesystem, inner = url_to_fs(path)
    except ImportError as error:
        raise UserError(f"source {path}: {error} (S3: pip install 'discrete-adversarial-distillation[s3]')") from None
    except ValueError as error:
        raise UserError(f"source {path}: {error}") from None
    return filesystem, inner.rstrip("/") or "/"


def list_folders(filesystem: AbstractFileSystem, root: str) -> list[str]:
    """Sorted names of the folders directly in `root`, hidden ones left out; links to folders count."""
    if isinstance(filesystem, LocalFileSystem):
        with os.scandir(root) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
    else:
        listed = filesystem.ls(root, detail=True)
        names = [entry["name"].rstrip("/").rpartition("/")[2] for entry in listed if entry["type"] == "directory"]
    return sorted(name for name in names if not name.startswith("."))


def walk_files(filesystem: AbstractFileSystem, root: str) -> Iterator[tuple[str, int]]:
    """(path relative to `root`, size in bytes) of every file below it, hidden ones left out; links are followed.

    A dangling link counts as a file of 0 bytes, so that it shows up as an image that cannot be read.
    """
    if isinstance(filesystem, LocalFileSystem):
        yield from _walk_local(root, "", frozenset())
        return
    for path, details in sorted(filesystem.find(root, detail=True).items()):
        name = path[len(root) :].lstrip("/")
        if not any(part.startswith(".") for part in name.split("/")):
            yield name, details["size"] or 0


def _walk_local(root: str, folder: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, int]]:
    with os.scandir(os.path.join(root, folder)) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if entry.name.startswith("."):
            continue
        name = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_dir():
            status = entry.stat()
            inode = (status.st_dev, status.st_ino)
            if inode not in above:  # a link to a folder above itself would never end
                yield from _walk_local(root, name, above | {inode})
        elif entry.is_file():
            yield name, entry.stat().st_size
        elif entry.is_symlink():
            yield name, 0


def find_files(path: str) -> list[SourceFile]:
    """The files that `path` stands for: below a folder, matched by a glob (`*`, `?`), or named by braces.

    UserError where there is none, one is missing, or the path cannot be listed.
    """
    filesystem, inner = filesystem_of(path)
    try:
        with plainly_told(f"source {path}"):
            if filesystem.isdir(inner):
                found = [
                    SourceFile(filesystem=filesystem, path=f"{inner.rstrip('/')}/{name}", name=name, size=size)
                    for name, size in walk_files(filesystem, inner)
                ]
            else:
                found = list(_matching_files(filesystem, inner))
    except StoreError:
        raise
    except OSError as error:
        raise UserError(f"source {path}: cannot be listed: {error.strerror or error}") from None
    if not found:
        raise UserError(f"source {path}: no file found there")
    return found


def _matching_files(filesystem: AbstractFileSystem, pattern: str) -> Iterator[SourceFile]:
    names = [pattern] if filesystem.exists(pattern) else expand_braces(pattern)
    if names == [pattern]:
        root = str(PurePosixPath(_fixed_part(pattern, "*?")).parent)
    else:
        root = str(PurePosixPath(_fixed_part(pattern, "{\\*?")).parent)
    for name in names:
        matches = [name]
        if not filesystem.exists(name):
            matches = sorted(filesystem.glob(name.replace("[", "[[]"))) if set(name) & set("*?") else []
        if not matches:
            raise UserError(f"source {name}: there is no such file or folder")
        for path in matches:
            details = filesystem.info(path)
            if details["type"] == "file":
                relative = path[len(root) :].lstrip("/") if path.startswith(root) else PurePosixPath(path).name
                yield SourceFile(filesystem=filesystem, path=path, name=relative, size=details["size"] or 0)


def _fixed_part(pattern: str, magic: str) -> str:
    """`pattern` up to its first magic character: its folder is what all the names share."""
    return pattern[: min((pattern.find(letter) for letter in magic if letter in pattern), default=len(pattern))] + "_"


def check_stems(files: list[SourceFile]) -> None:
    """UserError where two files would name their shards alike, or one has a name that no key can hold."""
    seen: dict[str, str] = {}
    for file in files:
        if any("\ud800" <= letter <= "\udfff" for letter in file.stem):
            raise UserError(f"source file {file.path!r}: its name is not UTF-8, rename it: the keys begin with it")
        if file.stem in seen:
            raise UserError(
                f"source files {seen[file.stem]} and {file.name}: both would make shards named {file.stem}-..., rename "
                "one or give them to separate runs"
            )
        seen[file.stem] = file.name
