"""Where a file comes from: what hands over its bytes, from the beginning or from where an earlier try ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from dad_datasets.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A file, or the rest of one, about to be handed over."""

    start: int
    """Where the bytes begin: where they were asked for, or 0 where the file is given anew."""
    total_bytes: int | None
    """Of the whole file; None where the origin does not say."""
    validator: str | None
    """The same for as long as the file is; None where the origin has nothing like it."""
    sha256: str | None
    """Hex digest that the origin states."""
    chunks: Iterator[bytes]
    """Raises BrokenTransferError where the connection ends too early."""


class Origin(Protocol):
    """A file at an address."""

    address: str

    def open(self, start: int, validator: str | None) -> AbstractContextManager[Offer]:
        """The bytes from `start` on if the file is still the one with that validator (None: any), else from 0 on.

        BrokenTransferError for what may pass, NotThereError where there is no such file, UserError for the rest.
        """


class BrokenTransferError(Exception):
    """A transfer that broke off and may be tried again; `wait_s` is how long the server asks to wait."""

    def __init__(self, reason: str, *, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class NotThereError(UserError):
    """The origin has no such file."""


class WebPageError(UserError):
    """A page for people in place of the file: a login, a quota, a password."""

    def __init__(self, address: str) -> None:
        is_url = "://" in address
        what = "the server answered with a web page" if is_url else "is a web page, saved in place of the file"
        super().__init__(f"{address}: {what}; take the file by hand and give it with --from")


def origin_of(address: str) -> Origin:
    """The origin at a URL or a local path."""
    from dad_pipeline.fetching.filesystem_origin import FilesystemOrigin
    from dad_pipeline.fetching.http_origin import HttpOrigin

    return HttpOrigin(address) if address.startswith(("http://", "https://")) else FilesystemOrigin(address)
