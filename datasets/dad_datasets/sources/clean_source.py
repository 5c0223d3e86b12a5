"""What a clean source is: samples in a fixed order, cut into work units."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from dad_datasets.errors import UserError
from dad_datasets.keys import encode_key

LARGEST_IMAGE_BYTES = 256 * 2**20
LARGEST_LABEL = 2**31 - 1  # the index stores labels as int32
LONGEST_STEM_BYTES = 200  # leaves room for the part, the suffix and a temporary name under the usual limit of 255


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanSample:
    """One image as stored and its label. `problem` is empty, or a short reason why the sample cannot be used.

    `source_key` is unique over the whole source. `label` is -1 where unknown. Reasons come from a small fixed set, so
    that failures can be counted by reason.
    """

    source_key: str
    image: bytes
    label: int
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkUnit:
    """`count` consecutive samples of one source file, from sample `start` of it. `name` is safe as a file name."""

    name: str
    source_shard: str
    start: int
    count: int


class CleanSource(Protocol):
    """A clean dataset in some layout. Implementations are picklable, so that workers can be sent one."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names in label order where the layout gives them."""

    def plan(self, samples_per_shard: int) -> Iterator[WorkUnit]:
        """All work units in order, lazily. UserError where a source file turns out to be damaged."""

    def read(self, unit: WorkUnit) -> Iterator[CleanSample]:
        """Exactly `unit.count` samples, in order. A bad sample has a `problem`; only a damaged source file raises."""

    def fetch(self, source_key: str) -> bytes:
        """The image as `read` gives it, by random access: quick in any order, after pickling and in forked processes.

        KeyError where the source has no such key, or no usable image under it (one of 0 bytes, for instance); labels
        are not looked at. UserError where a source file turns out to be damaged or gone.
        """

    def has(self, source_key: str) -> bool:
        """Whether `fetch` would find a usable image, told without reading any: quick enough to ask for every key.

        True wherever `fetch` finds one; each layout says where else. UserError as of `fetch`.
        """

    def preload(self) -> None:
        """Load what `fetch` needs into memory, where that is worth it, so that workers forked later share it."""

    def label_range(self) -> tuple[int, int] | None:
        """Smallest and largest label over all samples, negative ones included, or None where that would be dear."""

    def longest_key(self) -> str | None:
        """The source key that is longest once encoded for a tar member, or None where finding it would be dear."""

    def identity(self) -> str:
        """sha256 (hex) over the names and sizes of the source files, in order; not over where they are."""


def cut_units(*, stem: str, source_shard: str, num_samples: int, samples_per_shard: int) -> Iterator[WorkUnit]:
    """The units of one source file: consecutive, of `samples_per_shard` samples, the last one perhaps fewer."""
    if samples_per_shard < 1:
        raise UserError(f"samples_per_shard = {samples_per_shard}: must be at least 1")
    file_stem = safe_stem(stem)
    for part, start in enumerate(range(0, num_samples, samples_per_shard)):
        count = min(samples_per_shard, num_samples - start)
        yield WorkUnit(name=f"{file_stem}-{part:05d}", source_shard=source_shard, start=start, count=count)


def safe_stem(stem: str) -> str:
    """`stem` percent-encoded to letters, digits and `_.-~`, without a leading dot: safe in file names and in globs."""
    encoded = quote(stem, safe="", errors="surrogateescape")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if not encoded or len(encoded) > LONGEST_STEM_BYTES:
        raise UserError(
            f"source file {stem!r}: its name without the suffix must have 1 to {LONGEST_STEM_BYTES} bytes "
            f"(percent-encoded) to name shards, not {len(encoded)}"
        )
    return encoded


def text_of_name(name: str) -> tuple[str, str]:
    """A file name as valid Unicode, and a problem where the name on disk was not UTF-8 (it is then escaped)."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text, "" if text == name else "file name is not UTF-8"


def longest_encoded(source_keys: Iterable[str]) -> str:
    """The key that is longest once encoded for a tar member; empty where there is none."""
    return max(source_keys, key=lambda source_key: len(encode_key(source_key)), default="")


def image_problem(num_bytes: int) -> str:
    """Why an image of this size is not worth reading, or an empty string."""
    if num_bytes == 0:
        return "image is empty"
    return "image is larger than 256 MiB" if num_bytes > LARGEST_IMAGE_BYTES else ""


def label_problem(label: int) -> str:
    """Why an integer cannot be a label, or an empty string."""
    if label < 0:
        return "label is negative"
    return "label does not fit 31 bits" if label > LARGEST_LABEL else ""


def identity_of(parts: Iterable[tuple[str, int]]) -> str:
    """sha256 (hex) over (name, size in bytes or samples) pairs, in order."""
    digest = hashlib.sha256()
    for name, size in parts:
        digest.update(json.dumps([name, size]).encode() + b"\n")
    return digest.hexdigest()
