"""A source opened from its settings, its layout told from the files where the settings leave it open."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from dad_datasets.cache_folder import DEFAULT_CACHE_BYTES
from dad_datasets.errors import UserError
from dad_datasets.layout import MANIFEST
from dad_datasets.sources.clean_source import CleanSource
from dad_datasets.sources.image_folder import ImageFolder
from dad_datasets.sources.image_types import is_image_name
from dad_datasets.sources.parquet_images import ParquetImages
from dad_datasets.sources.prepared import PreparedShards
from dad_datasets.sources.settings import SourceKind, SourceSettings
from dad_datasets.sources.source_files import SourceFile, filesystem_of, find_files, walk_files
from dad_datasets.sources.webdataset_tars import WebDatasetTars
from dad_datasets.store_errors import StoreError, plainly_told

LAYOUTS = "tars (.tar), Parquet files (.parquet), folders of images named by class, or a folder made by `dad prepare`"
_SUFFIXES: dict[str, SourceKind] = {".tar": "webdataset", ".parquet": "parquet"}
_FILES_LOOKED_AT = 1000  # when telling a folder's layout: enough for a stray file, quick for millions of images


def open_source(
    settings: SourceSettings, *, cache: Path | None = None, cache_bytes: int = DEFAULT_CACHE_BYTES
) -> CleanSource:
    """The clean source at `settings.path`. UserError where nothing is there, or nothing that can be read.

    `cache` is the folder for copies of remote tars, of which random access needs at most `cache_bytes`; None: the
    user's cache folder. Reading in order needs none.
    """
    kind = _tell_kind(settings.path) if settings.kind == "auto" else settings.kind
    if kind != "parquet" and (settings.image_column or settings.label_column):
        field = "image_column" if settings.image_column else "label_column"
        raise UserError(f"source {settings.path}: {field} is for Parquet, but this is {kind}")
    if kind == "image_folder":
        return ImageFolder(settings.path)
    if kind == "prepared":
        return PreparedShards(settings.path, cache=cache, cache_bytes=cache_bytes)
    if kind == "webdataset":
        return WebDatasetTars(_files_of(settings.path, ".tar"), cache=cache, cache_bytes=cache_bytes)
    return ParquetImages(
        _files_of(settings.path, ".parquet"),
        image_column=settings.image_column,
        label_column=settings.label_column,
    )


def _files_of(path: str, suffix: str) -> list[SourceFile]:
    files = [file for file in find_files(path) if file.name.endswith(suffix)]
    if not files:
        raise UserError(f"source {path}: no {suffix} file there")
    return files


def _tell_kind(path: str) -> SourceKind:
    filesystem, inner = filesystem_of(path)
    kinds: set[SourceKind | None]
    try:
        with plainly_told(f"source {path}"):
            if filesystem.isdir(inner):
                if filesystem.exists(f"{inner.rstrip('/')}/{MANIFEST}"):
                    return "prepared"
                first = islice(walk_files(filesystem, inner), _FILES_LOOKED_AT)
                kinds = {kind for name, _ in first if (kind := _kind_of(name))}
            else:
                kinds = {_kind_of(file.name) for file in find_files(path)}
    except StoreError:
        raise
    except OSError as error:
        raise UserError(f"source {path}: cannot be listed: {error.strerror or error}") from None
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is not None:
        return kind
    what = "more than one layout mixed together" if len(kinds) > 1 else "no layout that is known"
    raise UserError(f"source {path}: {what}; looked for {LAYOUTS} (a glob or source.kind can pick one)")


def _kind_of(name: str) -> SourceKind | None:
    for suffix, kind in _SUFFIXES.items():
        if name.endswith(suffix):
            return kind
    return "image_folder" if is_image_name(name) and "/" in name else None
