"""Whether a file is the published one, as far as anything is known of that."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from dad_datasets.errors import UserError
from dad_pipeline.fetching.checkpoint_content import CheckpointKind, checkpoint_kind
from dad_pipeline.fetching.published import PublishedFile


def verified_sha256(published: PublishedFile, path: Path, origin: str, *, stated: str | None, remedy: str) -> str:
    """The hex digest of the file at `path`; `stated` is what the server said it would be.

    UserError, naming `origin` and ending in `remedy`, where the size or the digest is another than expected.
    """
    size = path.stat().st_size
    if published.num_bytes is not None and size != published.num_bytes:
        raise UserError(f"{origin}: has {size:,} bytes, but {published.num_bytes:,} were published; {remedy}")
    sha256 = file_sha256(path)
    for expected, who in ((published.sha256, "published"), (stated, "stated by the server")):
        if expected is not None and not sha256.startswith(expected):
            raise UserError(f"{origin}: its sha256 is {sha256}, but {expected} was {who}; {remedy}")
    return sha256


def file_kind(published: PublishedFile, path: Path, origin: str) -> CheckpointKind | Literal["config"]:
    """What the file at `path` is. UserError, naming `origin`, where a recipe could not use it."""
    if published.role == "checkpoint":
        return checkpoint_kind(path, origin)
    from dad_pipeline.quantizer_checkpoint import read_architecture

    try:
        read_architecture(path)
    except UserError as error:
        raise UserError(str(error).replace(str(path), origin)) from None
    return "config"


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
