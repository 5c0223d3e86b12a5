"""Images in folders that are named by class, each folder's label given."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from fsspec import AbstractFileSystem
from PIL import Image

from dad_datasets.benchmarks.benchmark import BenchmarkImage
from dad_datasets.decoding import UndecodableImageError, decode_image
from dad_datasets.errors import UserError
from dad_datasets.sources.clean_source import LARGEST_IMAGE_BYTES, identity_of, image_problem, text_of_name
from dad_datasets.sources.image_types import is_image_name
from dad_datasets.sources.source_files import filesystem_of, list_folders, open_file, walk_files

Crop = Callable[[Image.Image], Image.Image]


def folders_in(path: str, *, origin: str) -> list[str]:
    """Sorted names of the folders in `path`. UserError where it is no folder."""
    filesystem, inner = filesystem_of(path)
    try:
        if not filesystem.isdir(inner):
            raise UserError(f"{origin}: there is no folder {path}")
        return list_folders(filesystem, inner)
    except OSError as error:
        raise UserError(f"{origin}: {path} cannot be listed: {error.strerror or error}") from None


class ClassFolders:
    """The images at any depth below the folders of `path` that `labels` names.

    The order is that of the sha256 of the relative path, so that the first images are a fair draw from all classes.
    Folders are listed when their images are first asked for: ImageNet-C has 75,000 of them.
    """

    def __init__(self, path: str, labels: Mapping[str, int], *, origin: str, crop: Crop | None = None) -> None:
        self._path = path
        self._labels = labels
        self._origin = origin
        self._crop = crop
        self._listed: list[tuple[bytes, str, int]] | None = None

    def __len__(self) -> int:
        return len(self._listing())

    def __iter__(self) -> Iterator[BenchmarkImage]:
        filesystem, root = filesystem_of(self._path)
        for _, name, _ in self._listing():
            yield BenchmarkImage(
                key=text_of_name(name)[0],
                label=self._labels[name.partition("/")[0]],
                load=partial(_load, filesystem, f"{root.rstrip('/')}/{name}", self._crop),
            )

    def identity(self) -> str:
        return identity_of((name, size) for _, name, size in self._listing())

    def _listing(self) -> list[tuple[bytes, str, int]]:
        if self._listed is None:
            filesystem, root = filesystem_of(self._path)
            found = []
            for folder in sorted(self._labels):
                images = [
                    (f"{folder}/{name}", size)
                    for name, size in walk_files(filesystem, f"{root.rstrip('/')}/{folder}")
                    if is_image_name(name)
                ]
                if not images:
                    raise UserError(f"{self._origin}: folder {self._path}/{folder} holds no image")
                found += [
                    (hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest(), name, size)
                    for name, size in images
                ]
            self._listed = sorted(found)
        return self._listed


def _load(filesystem: AbstractFileSystem, path: str, crop: Crop | None) -> Image.Image:
    try:
        with open_file(filesystem, path) as file:
            encoded = file.read(LARGEST_IMAGE_BYTES + 1)
    except (UserError, OSError):
        raise UndecodableImageError("image file cannot be read") from None
    if problem := image_problem(len(encoded)):
        raise UndecodableImageError(problem)
    image = decode_image(encoded)
    return image if crop is None else crop(image)
