"""A folder of class folders, as torchvision's ImageFolder reads it."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import PurePosixPath

from fsspec.implementations.local import LocalFileSystem

from dad_datasets.errors import UserError
from dad_datasets.sources.clean_source import (
    CleanSample,
    WorkUnit,
    cut_units,
    identity_of,
    longest_encoded,
    text_of_name,
)
from dad_datasets.sources.image_files import fetch_image, is_image_file, is_listed_name, read_image
from dad_datasets.sources.image_types import is_image_name
from dad_datasets.sources.source_files import filesystem_of, list_folders, walk_files
from dad_datasets.store_errors import StoreError, plainly_told


class ImageFolder:
    """Class = folder on the first level, label = its place among the sorted names; images are found at any depth in it.

    The order is that of the sha256 of the relative path, so that any run of samples, the first ones included, is a fair
    draw from all classes. The source key is the relative path. The listing is not pickled: a worker lists the folder
    again, and refuses it if it changed.
    """

    def __init__(self, path: str) -> None:
        """Lists the folder. UserError where it has no class folder, or a class folder without an image."""
        self._filesystem, self._root = filesystem_of(path)
        self._listed: list[str] | None = None
        self._names: tuple[str, ...] = ()
        self._identity = ""
        self._listing()

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._names

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_listed": None}

    def plan(self, samples_per_shard: int) -> Iterator[WorkUnit]:
        stem = PurePosixPath(self._root).name or "images"
        yield from cut_units(
            stem=stem, source_shard=stem, num_samples=len(self._listing()), samples_per_shard=samples_per_shard
        )

    def read(self, unit: WorkUnit) -> Iterator[CleanSample]:
        labels = {name: label for label, name in enumerate(self._names)}
        for name in self._listing()[unit.start : unit.start + unit.count]:
            image, problem = read_image(self._filesystem, f"{self._root.rstrip('/')}/{name}")
            source_key, name_problem = text_of_name(name)
            class_name = text_of_name(name.partition("/")[0])[0]
            yield CleanSample(
                source_key=source_key, image=image, label=labels[class_name], problem=problem or name_problem
            )

    def fetch(self, source_key: str) -> bytes:
        if not is_listed_name(source_key):
            raise KeyError(source_key)
        return fetch_image(self._filesystem, f"{self._root.rstrip('/')}/{source_key}", source_key)

    def has(self, source_key: str) -> bool:
        """Elsewhere than on a local disk by the listing alone, where an unusable image counts too."""
        if not is_listed_name(source_key):
            return False
        if isinstance(self._filesystem, LocalFileSystem):
            return is_image_file(f"{self._root.rstrip('/')}/{source_key}")
        listed = self._listing()
        place = bisect_left(listed, _place_in_order(source_key), key=_place_in_order)
        return place < len(listed) and listed[place] == source_key

    def preload(self) -> None:
        pass

    def label_range(self) -> tuple[int, int] | None:
        return 0, len(self._names) - 1

    def longest_key(self) -> str | None:
        return longest_encoded(text_of_name(name)[0] for name in self._listing())

    def identity(self) -> str:
        return self._identity

    def _listing(self) -> list[str]:
        if self._listed is None:
            try:
                with plainly_told(f"source {self._root}"):
                    found = [
                        (_place_in_order(name), name, size)
                        for name, size in walk_files(self._filesystem, self._root)
                        if "/" in name and is_image_name(name)
                    ]
                    folders = list_folders(self._filesystem, self._root)
            except StoreError:
                raise
            except OSError as error:
                raise UserError(f"source {self._root}: cannot be listed: {error.strerror or error}") from None
            _check_classes(self._root, folders, {name.partition("/")[0] for _, name, _ in found})
            found.sort()
            stem = PurePosixPath(self._root).name
            identity = identity_of([(stem, len(found)), *((name, size) for _, name, size in found)])
            if self._identity and identity != self._identity:
                raise UserError(f"source {self._root}: files were added, removed or changed since the run was planned")
            self._identity = identity
            self._names = tuple(text_of_name(folder)[0] for folder in folders)
            self._listed = [name for _, name, _ in found]
        return self._listed


def _place_in_order(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()


def _check_classes(root: str, folders: list[str], with_images: set[str]) -> None:
    if not folders:
        raise UserError(f"source {root}: no class folders in it; expected <class name>/<image>.jpg")
    if empty := [folder for folder in folders if folder not in with_images]:
        raise UserError(
            f"source {root}: class folder {empty[0]} holds no image"
            + (f" (nor do {len(empty) - 1} others)" if len(empty) > 1 else "")
            + "; remove it, or labels would count it as a class"
        )
