"""A published file put in its folder: looked for first, then received, verified, and given its name."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dad_datasets.errors import UserError
from dad_datasets.folder import sync_directory
from dad_datasets.lease import Lease
from dad_pipeline.fetching.archive import unpack_checkpoint
from dad_pipeline.fetching.origin import NotThereError, origin_of
from dad_pipeline.fetching.published import PublishedFile
from dad_pipeline.fetching.room import NoRoomError, require_room
from dad_pipeline.fetching.transfer import ReceivedState, TransferReport, receive, state_path
from dad_pipeline.fetching.verification import file_kind, file_sha256, verified_sha256


@dataclass(frozen=True, kw_only=True)
class PlacedFile:
    """A whole file under its name."""

    path: Path
    sha256: str
    was_there: bool
    is_vouched_for: bool
    """Whether its hash was compared with a published one, or with the one that the server stated."""

    def __str__(self) -> str:
        here = "there already" if self.was_there else f"{self.path.stat().st_size:,} bytes"
        advice = "as expected" if self.is_vouched_for else "nobody published one, note it"
        return f"{self.path}: {here}, sha256 {self.sha256} ({advice})"


def place(
    published: PublishedFile,
    folder: Path,
    *,
    addresses: Sequence[str],
    report: TransferReport,
    wait: Callable[[float], None] = time.sleep,
) -> PlacedFile:
    """The published file in `folder`, brought from the first of `addresses` that has it, unless it is there already.

    What arrives stands in `<name>.part/` until it is whole, for the next run to go on with. UserError for a file that
    is there but is not the published one (it is left alone), for one that arrives and is not (it is removed), where
    the disk is too small, and where another process fetches the same file.
    """
    found = _look_for(published, folder)
    if found is not None:
        return found
    staging = folder / f"{published.path(folder).name}.part"
    try:
        with Lease(staging):
            return _look_for(published, folder) or _bring(published, folder, staging, addresses, report, wait)
    finally:
        with suppress(OSError):  # not empty: something to go on with, or another run's
            staging.rmdir()


def _look_for(published: PublishedFile, folder: Path) -> PlacedFile | None:
    for safetensors in (False, True) if published.role == "checkpoint" else (False,):
        path = published.path(folder, safetensors=safetensors)
        if not path.exists():
            continue
        remedy = "move it away and run this again"
        sha256 = verified_sha256(published, path, str(path), stated=None, remedy=remedy)
        if file_kind(published, path, str(path)) == "archive":
            raise UserError(f"{path}: is a zip round a checkpoint; {remedy} with --from and its new place")
        return PlacedFile(path=path, sha256=sha256, was_there=True, is_vouched_for=published.sha256 is not None)
    return None


def _bring(
    published: PublishedFile,
    folder: Path,
    staging: Path,
    addresses: Sequence[str],
    report: TransferReport,
    wait: Callable[[float], None],
) -> PlacedFile:
    arrived, unpacked = staging / "arrived", staging / "unpacked"
    state = _receive_first(published, arrived, addresses, report, wait)
    origin = state.address
    try:
        sha256 = verified_sha256(published, arrived, origin, stated=state.sha256, remedy="what arrived was removed")
        kind, whole = file_kind(published, arrived, origin), arrived
        if kind == "archive":
            unpack_checkpoint(arrived, unpacked, origin)
            kind, whole, sha256 = file_kind(published, unpacked, origin), unpacked, file_sha256(unpacked)
            if kind == "archive":
                raise UserError(f"{origin}: a zip in a zip; unpack it and give the checkpoint with --from")
    except NoRoomError:
        raise
    except UserError:
        _remove(unpacked, arrived, state_path(arrived))
        raise
    path = published.path(folder, safetensors=kind == "safetensors")
    whole.replace(path)
    sync_directory(folder)
    _remove(arrived, state_path(arrived))
    vouched_for = whole is arrived and (published.sha256 is not None or state.sha256 is not None)
    return PlacedFile(path=path, sha256=sha256, was_there=False, is_vouched_for=vouched_for)


def _receive_first(
    published: PublishedFile,
    file: Path,
    addresses: Sequence[str],
    report: TransferReport,
    wait: Callable[[float], None],
) -> ReceivedState:
    *others, last = [
        partial(
            receive,
            origin_of(address),
            file,
            expected_bytes=published.num_bytes,
            hash_is_known=published.hash_is_whole,
            require_room=partial(require_room, file.parent),
            report=report,
            wait=wait,
        )
        for address in addresses
    ]
    for attempt in others:
        with suppress(NotThereError):
            return attempt()
    return last()


def _remove(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)
