"""A file received bit by bit: goes on where an earlier try ended, in this run or in one before."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Protocol

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_pipeline.fetching.origin import BrokenTransferError, Offer, Origin, WebPageError

TRIES = 6
"""In a row without a single new byte."""
LONGEST_WAIT_S = 30.0


class TransferReport(Protocol):
    """Who watches a transfer."""

    def show(self, received: int, total: int | None) -> None:
        """So many bytes are here."""

    def note(self, message: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class ReceivedState:
    """What is kept beside a file that is not whole yet: with it, and only with it, the transfer may go on."""

    address: str
    validator: str | None
    total_bytes: int | None
    sha256: str | None
    """That the origin stated."""


def receive(
    origin: Origin,
    file: Path,
    *,
    expected_bytes: int | None,
    hash_is_known: bool,
    require_room: Callable[[int], None],
    report: TransferReport,
    wait: Callable[[float], None] = time.sleep,
) -> ReceivedState:
    """Bring all bytes of `origin` into `file`, fsynced; its state stands beside it under the suffix `.json`.

    Without a validator of the origin what an earlier try brought is used only if `hash_is_known`: a file pieced
    together of two versions would be found out then. `require_room` is asked before that many bytes are written.
    UserError, and `file` left for the next run, where the origin does not answer any more; UserError for a web page,
    and where the origin announces another size than `expected_bytes`.
    """
    tries, furthest = 0, -1
    while True:
        state = _read_state(file, origin.address)
        size = file.stat().st_size if file.exists() else 0
        if state is not None and size == state.total_bytes:
            return state
        trusted = state is not None and (state.validator is not None or hash_is_known)
        try:
            with origin.open(size if trusted else 0, state.validator if state else None) as offer:
                return _take(offer, origin.address, file, expected_bytes, require_room, report)
        except BrokenTransferError as broken:
            size = file.stat().st_size if file.exists() else 0
            tries = tries + 1 if size <= furthest else 1
            furthest = max(furthest, size)
            if tries == TRIES:
                raise UserError(
                    f"{origin.address}: {broken}, {tries} times in a row; {size:,} bytes are kept, the same command "
                    "goes on from there; --from takes a mirror or a local file"
                ) from None
            seconds = max(broken.wait_s, min(2.0 ** (tries - 1), LONGEST_WAIT_S))
            report.note(f"{broken}; {size:,} bytes are here, next try in {seconds:.0f} s")
            wait(seconds)


def _take(
    offer: Offer,
    address: str,
    file: Path,
    expected_bytes: int | None,
    require_room: Callable[[int], None],
    report: TransferReport,
) -> ReceivedState:
    total = offer.total_bytes
    if None not in (total, expected_bytes) and total != expected_bytes:
        raise UserError(f"{address}: has {total:,} bytes, but {expected_bytes:,} were published: another file")
    require_room((total or expected_bytes or 0) - offer.start)
    first = next(offer.chunks, b"")
    if offer.start == 0 and is_markup(first):
        raise WebPageError(address)
    state = ReceivedState(address=address, validator=offer.validator, total_bytes=total, sha256=offer.sha256)
    with file.open("r+b" if offer.start else "wb") as stream:
        if offer.start == 0:  # after the file was emptied: a state never vouches for bytes of another version
            _write_state(file, state)
        stream.seek(offer.start)
        received = _copy(first, offer, stream, total, report)
        os.fsync(stream.fileno())
    if total is not None and received < total:
        raise BrokenTransferError(f"the connection ended after {received:,} of {total:,} bytes")
    if total is not None and received > total:
        raise UserError(f"{address}: gave {received:,} bytes after announcing {total:,}")
    return state


def _copy(first: bytes, offer: Offer, stream: IO[bytes], total: int | None, report: TransferReport) -> int:
    received = offer.start
    chunk = first
    while chunk:
        stream.write(chunk)
        received += len(chunk)
        report.show(received, total)
        chunk = next(offer.chunks, b"")
    stream.flush()
    return received


def is_markup(content: bytes) -> bool:
    """Whether it begins as HTML and XML do; no checkpoint and no YAML file begins with "<"."""
    return content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<"


def state_path(file: Path) -> Path:
    """Where the state of a file on its way stands."""
    return file.with_name(f"{file.name}.json")


def _write_state(file: Path, state: ReceivedState) -> None:
    with LocalFolder(file.parent).publish(state_path(file).name) as stream:
        stream.write(json.dumps(asdict(state)).encode())


def _read_state(file: Path, address: str) -> ReceivedState | None:
    """The state beside `file`; None where there is none, or one of another address."""
    try:
        state = ReceivedState(**json.loads(state_path(file).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):  # not there, or of another version of this program
        return None
    return state if state.address == address else None
