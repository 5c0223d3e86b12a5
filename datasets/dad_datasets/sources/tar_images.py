"""Images in tars by source key: a table of each tar's members, made when first needed, and reads by offset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dad_datasets.errors import UserError
from dad_datasets.key_table import KeyTable, Places, digests_of
from dad_datasets.mapped_files import MappedFiles
from dad_datasets.shard_cache import CachedFiles
from dad_datasets.sources.source_files import SourceFile
from dad_datasets.sources.tar_samples import samples_in


class TarImages:
    """Remote tars are copied whole into the cache: walking their headers would load them anyway."""

    def __init__(self, files: Sequence[SourceFile], cache: Path | None, cache_bytes: int) -> None:
        self._files = {file.stem: file for file in files}
        self._tables: dict[str, KeyTable] = {}
        self._reads: MappedFiles | CachedFiles
        if all(file.is_local for file in files):
            self._reads = MappedFiles()
        else:
            self._reads = CachedFiles(files[0].filesystem, cache, cache_bytes)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_tables": {}}

    def preload(self) -> None:
        """Make the tables of all tars, but not of remote ones, which would fetch them all."""
        if isinstance(self._reads, MappedFiles):
            for stem in self._files:
                self._table(stem)

    def fetch(self, source_key: str) -> bytes:
        """KeyError where there is no such sample or no usable image in it; UserError where the tar is damaged."""
        stem, _, key = source_key.partition("/")
        if stem not in self._files:
            raise KeyError(source_key)
        try:
            place = self._table(stem).find(key)
        except KeyError:
            raise KeyError(source_key) from None
        path = self._files[stem].path
        try:
            image = self._reads.read(path, place.offset, place.length)
        except OSError as error:
            raise UserError(f"source file {path}: cannot be read: {error.strerror or error}") from None
        if len(image) != place.length:
            raise UserError(f"source file {path}: ends before the image of {key}: it was cut off while in use")
        return image

    def has(self, source_key: str) -> bool:
        """Whether the sample is in its tar and usable; of remote ones, whether its tar is there.

        The tables of remote tars are not asked even where they are made: all processes must get the same answer.
        """
        stem, _, key = source_key.partition("/")
        if stem not in self._files:
            return False
        return isinstance(self._reads, CachedFiles) or key in self._table(stem)

    def _table(self, stem: str) -> KeyTable:
        if stem not in self._tables:
            file = self._files[stem]
            with self._open(file) as tar:
                samples = list(samples_in(tar, file))
            images = [(sample.key, sample.image) for sample in samples if sample.image and not sample.problem]
            places = Places(
                file=0,
                digests=digests_of(key for key, _ in images),
                offsets=np.array([image.offset for _, image in images], np.int64),
                lengths=np.array([image.size for _, image in images], np.int64),
            )
            self._tables[stem] = KeyTable([places])
        return self._tables[stem]

    def _open(self, file: SourceFile) -> BinaryIO:
        if isinstance(self._reads, MappedFiles):
            return file.open()
        try:
            return self._reads.open(file.path)
        except FileNotFoundError:
            raise UserError(f"source file {file.path}: is no longer there") from None
