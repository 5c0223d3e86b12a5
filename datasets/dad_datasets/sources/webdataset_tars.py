"""WebDataset tars as a clean source, as they are: image members with `.cls` or `.json` labels."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dad_datasets.cache_folder import DEFAULT_CACHE_BYTES
from dad_datasets.errors import UserError
from dad_datasets.sources.clean_source import (
    CleanSample,
    WorkUnit,
    cut_units,
    identity_of,
    label_problem,
    longest_encoded,
)
from dad_datasets.sources.label_members import LARGEST_MEMBER_BYTES, read_cls, read_json_label
from dad_datasets.sources.source_files import SourceFile, check_stems
from dad_datasets.sources.tar_images import TarImages
from dad_datasets.sources.tar_samples import TarSample, samples_in

_REMOTE_TARS_AT_ONCE = 8  # each is walked a request at a time, which does not fill a line


class TarFacts(NamedTuple):
    """What planning needs to know of one tar; `labels` is None where it has none or is not local."""

    num_samples: int
    longest_key: str
    labels: tuple[int, int] | None


class WebDatasetTars:
    """Tars in the order given; a sample's source key is "<tar stem>/<key in the tar>"."""

    class_names: tuple[str, ...] | None = None

    def __init__(
        self, files: list[SourceFile], *, cache: Path | None = None, cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        """`cache` holds copies of remote tars for `fetch`; None: the user's cache folder.

        UserError where two tars have the same stem, the first is damaged, or none holds a sample.
        """
        check_stems(files)
        self._files = {file.name: file for file in files}
        self._listed: tuple[str, list[TarSample]] = ("", [])
        self._facts: dict[str, TarFacts] = {}
        if not any(_has_sample(file) for file in files):
            raise UserError(f"source {files[0].path}: the {len(files)} tar(s) hold no sample")
        self._images = TarImages(files, cache, cache_bytes)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_listed": ("", []), "_facts": {}}

    def plan(self, samples_per_shard: int) -> Iterator[WorkUnit]:
        """Walks the headers of each tar, once.

        Of remote tars that loads what lies between the headers too, but for members larger than a block: the time of
        a request is that of megabytes. `dad prepare` spares it: prepared shards are planned from their table.
        """
        for (name, file), num_samples in zip(self._files.items(), self._counts(), strict=True):
            yield from cut_units(
                stem=file.stem, source_shard=name, num_samples=num_samples, samples_per_shard=samples_per_shard
            )

    def read(self, unit: WorkUnit) -> Iterator[CleanSample]:
        file = self._files[unit.source_shard]
        samples = self._listing(file)[unit.start : unit.start + unit.count]
        if len(samples) != unit.count:
            raise UserError(f"source file {file.path}: changed since the run was planned")
        with file.open() as tar:
            for sample in samples:
                yield _read_sample(tar, sample, f"{file.stem}/{sample.key}")

    def fetch(self, source_key: str) -> bytes:
        return self._images.fetch(source_key)

    def has(self, source_key: str) -> bool:
        """Of remote tars by the tar's name alone: any key in a tar that is there counts."""
        return self._images.has(source_key)

    def preload(self) -> None:
        self._images.preload()

    def label_range(self) -> tuple[int, int] | None:
        """Walks all headers and reads all labels, on local files only: elsewhere that would load all the data."""
        if not self._all_local():
            return None
        ranges = [labels for file in self._files.values() if (labels := self._survey(file).labels)]
        return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None

    def longest_key(self) -> str | None:
        """As dear as `label_range`, and on local files only."""
        if not self._all_local():
            return None
        return longest_encoded(self._survey(file).longest_key for file in self._files.values())

    def identity(self) -> str:
        return identity_of((file.name, file.size) for file in self._files.values())

    def _counts(self) -> Iterator[int]:
        """Of the samples in each tar; local ones when their turn comes, remote ones several at a time."""
        if self._all_local():
            yield from (self._survey(file).num_samples for file in self._files.values())
            return
        with ThreadPoolExecutor(_REMOTE_TARS_AT_ONCE) as pool:
            yield from pool.map(_count, self._files.values())

    def _all_local(self) -> bool:
        return all(file.is_local for file in self._files.values())

    def _listing(self, file: SourceFile) -> list[TarSample]:
        """The samples of one tar. Only the last one asked for is kept: units are read in order."""
        name, samples = self._listed
        if name != file.name:
            samples = list(_walk(file))
            self._listed = (file.name, samples)
        return samples

    def _survey(self, file: SourceFile) -> TarFacts:
        if file.name not in self._facts:
            samples = self._listing(file)
            labels: list[int] = []
            if file.is_local:
                with file.open() as tar:
                    labels = [label for sample in samples if (label := _read_label(tar, sample)) is not None]
            self._facts[file.name] = TarFacts(
                num_samples=len(samples),
                longest_key=longest_encoded(f"{file.stem}/{sample.key}" for sample in samples),
                labels=(min(labels), max(labels)) if labels else None,
            )
        return self._facts[file.name]


def _walk(file: SourceFile) -> Iterator[TarSample]:
    with file.open() as tar:
        yield from samples_in(tar, file)


def _count(file: SourceFile) -> int:
    return sum(1 for _ in _walk(file))


def _has_sample(file: SourceFile) -> bool:
    return next(_walk(file), None) is not None


def _read_label(tar: BinaryIO, sample: TarSample) -> int | None:
    if sample.label is None or sample.label.problem or sample.label.size > LARGEST_MEMBER_BYTES:
        return None
    tar.seek(sample.label.offset)
    member = tar.read(sample.label.size)
    return read_json_label(member) if sample.label_is_json else read_cls(member)


def _read_sample(tar: BinaryIO, sample: TarSample, source_key: str) -> CleanSample:
    label = _read_label(tar, sample)
    problem = sample.problem or ("label is not an integer" if label is None else label_problem(label))
    if problem or sample.image is None or label is None:
        return CleanSample(source_key=source_key, image=b"", label=-1, problem=problem)
    tar.seek(sample.image.offset)
    image = tar.read(sample.image.size)
    if len(image) != sample.image.size:
        return CleanSample(source_key=source_key, image=b"", label=label, problem="image member cut off")
    return CleanSample(source_key=source_key, image=image, label=label)
