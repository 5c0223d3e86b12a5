"""Tar members grouped into samples, by webdataset's rule: adjacent members with the same key."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import BinaryIO, NamedTuple

from dad_datasets.errors import UserError
from dad_datasets.sources.clean_source import image_problem
from dad_datasets.sources.image_types import IMAGE_EXTENSIONS
from dad_datasets.sources.label_members import LARGEST_MEMBER_BYTES
from dad_datasets.sources.source_files import SourceFile
from dad_datasets.sources.tar_listing import DamagedTarError, TarMember, walk_tar

_KEY_AND_SUFFIX = re.compile(r"((?:.*/|)[^./][^./]*)[.]([^/]*)", re.DOTALL)  # the key ends at the base name's first dot
_META = re.compile(r"__[^/]*__($|/)")  # webdataset skips these members


class TarSample(NamedTuple):
    """One sample: `key` unique in its tar, its image and label members if there, and a problem or an empty string."""

    key: str
    image: TarMember | None
    label: TarMember | None
    label_is_json: bool
    problem: str


def group_samples(members: Iterable[TarMember]) -> Iterator[TarSample]:
    """The samples of one tar, in order; members without a key (no dot in the base name) belong to none.

    A key that comes back later in the tar makes a second, unusable sample whose key ends in `#2`, `#3`, ...
    """
    keyed = ((found[1], found[2].lower(), member) for member in members if (found := _match(member.name)))
    taken: set[str] = set()
    copies: Counter[str] = Counter()
    for key, group in groupby(keyed, key=lambda entry: entry[0]):
        sample = _one_sample(key, [(suffix, member) for _, suffix, member in group])
        if key in taken:
            copies[key] += 1
            while f"{key}#{copies[key] + 1}" in taken:
                copies[key] += 1
            sample = sample._replace(key=f"{key}#{copies[key] + 1}", problem="key stands twice in the tar")
        taken.add(sample.key)
        yield sample


def samples_in(tar: BinaryIO, file: SourceFile) -> Iterator[TarSample]:
    """The samples of an open tar. UserError where it is damaged."""
    try:
        yield from group_samples(walk_tar(tar, file.size))
    except DamagedTarError as error:
        raise UserError(f"source file {file.path}: {error}; expected a whole, uncompressed tar") from None


def _match(name: str) -> re.Match[str] | None:
    return None if _META.match(name) else _KEY_AND_SUFFIX.fullmatch(name)


def _one_sample(key: str, members: list[tuple[str, TarMember]]) -> TarSample:
    images = [member for suffix, member in members if suffix in IMAGE_EXTENSIONS]
    by_suffix = dict(members)
    label = by_suffix.get("cls", by_suffix.get("json"))
    used = [*images, *([label] if label else [])]
    problem = next((member.problem for member in used if member.problem), "")
    if not problem:
        if not images:
            problem = "image member missing"
        elif len(images) > 1:
            problem = "several image members"
        elif len(by_suffix) < len(members):
            problem = "member stands twice"
        elif label is None:
            problem = "label member missing"
        elif label.size > LARGEST_MEMBER_BYTES:
            problem = "label is not an integer"
        else:
            problem = image_problem(images[0].size)
    return TarSample(
        key=key,
        image=images[0] if images else None,
        label=label,
        label_is_json=label is not None and "cls" not in by_suffix,
        problem=problem,
    )
