"""A file on a web server, with ranges where the server has them."""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http import HTTPStatus
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from dad_datasets.errors import UserError
from dad_pipeline.fetching.origin import BrokenTransferError, NotThereError, Offer, WebPageError

CHUNK_BYTES = 2**20
TIMEOUT_S = 60.0
"""Without a single byte."""
LONGEST_WAIT_S = 60.0
"""At most so long is a server's Retry-After obeyed."""

PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}


class HttpOrigin:
    """A file at an http or https URL, through the proxies of the environment, redirects followed."""

    def __init__(self, address: str) -> None:
        self.address = address

    @contextmanager
    def open(self, start: int, validator: str | None) -> Iterator[Offer]:
        redirects = _Redirects()
        response = self._rest(redirects, start, validator) if start else None
        if response is None:
            start, response = 0, self._ask(redirects, {})
        with response:
            if response.headers.get_content_type() == "text/html":
                raise WebPageError(self.address)
            yield Offer(
                start=start,
                total_bytes=_total_bytes(response),
                validator=_validator(response),
                sha256=redirects.sha256,
                chunks=_chunks(response),
            )

    def _rest(self, redirects: _Redirects, start: int, validator: str | None) -> http.client.HTTPResponse | None:
        """The bytes from `start` on; None where the file has changed or the server knows no ranges."""
        condition = {} if validator is None else {"If-Range": validator}
        try:
            response = self._ask(redirects, {"Range": f"bytes={start}-", **condition})
        except _NoSuchRangeError:
            return None
        if _goes_on(response, start, validator):
            return response
        response.close()
        return None

    def _ask(self, redirects: _Redirects, headers: dict[str, str]) -> http.client.HTTPResponse:
        headers = {"User-Agent": "discrete-adversarial-distillation", "Accept-Encoding": "identity", **headers}
        try:
            response = build_opener(redirects).open(Request(self.address, headers=headers), timeout=TIMEOUT_S)
        except HTTPError as error:
            error.close()
            raise self._refused(error) from None
        except ValueError as error:  # no URL after all: a port that is no number, a control character
            raise UserError(f"{self.address}: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        assert isinstance(response, http.client.HTTPResponse)
        return response

    def _refused(self, error: HTTPError) -> Exception:
        said = f"HTTP {error.code} {error.reason}"
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _NoSuchRangeError(f"{self.address}: {said}")
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in PASSING:
            asked = error.headers.get("Retry-After", "")
            return BrokenTransferError(said, wait_s=min(float(asked), LONGEST_WAIT_S) if asked.isdecimal() else 0.0)
        kind = NotThereError if error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE) else UserError
        return kind(f"{self.address}: {said}; give a mirror or a local file with --from")

    def _unreachable(self, error: OSError | http.client.HTTPException) -> Exception:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            return UserError(f"{self.address}: the server's certificate is not trusted: {reason.verify_message}")
        return BrokenTransferError(str(reason) or type(reason).__name__)


class _NoSuchRangeError(UserError):
    """The file ends before the bytes that were asked for."""


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, and keeps the sha256 that the Hugging Face hub states when it sends one to its storage."""

    sha256: str | None = None

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        stated = headers.get("X-Linked-ETag", "").strip('"')
        if re.fullmatch("[0-9a-f]{64}", stated):
            self.sha256 = stated
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # its stub wants another Message


def _goes_on(response: http.client.HTTPResponse, start: int, validator: str | None) -> bool:
    """Whether the response is the rest of the same file; servers that know no If-Range must be checked."""
    begins = re.match(rf"bytes {start}-", response.headers.get("Content-Range", ""))
    same = validator is None or _validator(response) in (None, validator)
    return response.status == HTTPStatus.PARTIAL_CONTENT and begins is not None and same


def _total_bytes(response: http.client.HTTPResponse) -> int | None:
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        stated = response.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        stated = response.headers.get("Content-Length", "")
    return int(stated) if stated.isdecimal() else None


def _validator(response: http.client.HTTPResponse) -> str | None:
    """The strong ETag, or the date of the last change: what If-Range takes."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read1(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise BrokenTransferError(str(error) or type(error).__name__) from None
        if not chunk:
            return
        yield chunk
