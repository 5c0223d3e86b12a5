"""An S3 server on loopback that claims to hold the tars and indexes of any number of units, and counts what is asked.

It answers the listings of `out/index/` and `out/shards/` in pages of 1000, as S3 does, and HEAD and GET of each index
from one template, so that the client's side of a resume can be measured without a million objects. It runs in a process
of its own.
"""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from dad_datasets.index import ShardSummary, index_schema, write_index

URL = "s3://bucket/out"
FINGERPRINT = "0" * 64
PAGE = 1000
_ENDINGS = {"out/index/": ".parquet", "out/shards/": ".tar"}
"""Of the files in each folder that is not empty."""
_TEMPLATE_UNIT = "train-xxxxxxx"
_ENTRY = (
    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;{number:032x}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


@dataclass(frozen=True)
class Store:
    """Where the server listens, and its requests so far by kind: "list", "HEAD", "GET"."""

    endpoint: str
    _connection: Connection

    def requests(self) -> dict[str, int]:
        self._connection.send("requests")
        counted: dict[str, int] = self._connection.recv()
        return counted


def unit_name(number: int) -> str:
    return f"train-{number:07d}"


@contextmanager
def listed_store(num_units: int) -> Iterator[Store]:
    """The server, while the block runs."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, num_units), daemon=True)
    process.start()
    try:
        yield Store(f"http://127.0.0.1:{ours.recv()}", ours)
    finally:
        process.terminate()
        process.join()


def _serve(connection: Connection, num_units: int) -> None:
    import threading

    _Handler.num_units, _Handler.template = num_units, _template()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    connection.send(server.server_address[1])
    while connection.recv():
        connection.send(dict(_Handler.counts))


def _template() -> bytes:
    summary = ShardSummary(
        unit=_TEMPLATE_UNIT,
        fingerprint=FINGERPRINT,
        tar_sha256="0" * 64,
        tar_bytes=1,
        rows=0,
        ok=0,
        clean_only=0,
        failed=0,
    )
    stream = io.BytesIO()
    write_index(stream, [], index_schema(("webp", "cls", "teacher.npy", "codes.npy", "json"), {}), summary)
    return stream.getvalue()


class _Handler(BaseHTTPRequestHandler):
    num_units: ClassVar[int]
    template: ClassVar[bytes]
    counts: ClassVar[dict[str, int]] = {"list": 0, "HEAD": 0, "GET": 0}
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if "list-type" in query:
            self.counts["list"] += 1
            self._answer(_listing(query, self.num_units, len(self.template)).encode())
            return
        self.counts["GET"] += 1
        content = self._index(parts.path)
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        self._answer(content[int(first) : int(last or len(content)) + 1], status=206, size=len(content))

    def do_HEAD(self) -> None:
        self.counts["HEAD"] += 1
        self._answer(self._index(urlsplit(self.path).path))

    def _index(self, path: str) -> bytes:
        unit = path.rpartition("/")[2].removesuffix(".parquet")
        return self.template.replace(_TEMPLATE_UNIT.encode(), unit.encode())

    def _answer(self, body: bytes, *, status: int = 200, size: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if size is not None:
            self.send_header("Content-Range", f"bytes 0-{size - 1}/{size}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def _listing(query: dict[str, list[str]], num_units: int, size: int) -> str:
    """One page of `out/index/` or `out/shards/`; any other folder is empty."""
    start = int(query.get("continuation-token", ["0"])[0])
    prefix = query.get("prefix", [""])[0]
    ending = _ENDINGS.get(prefix)
    end = start if ending is None else min(num_units, start + PAGE)
    entries = "".join(
        _ENTRY.format(key=f"{prefix}{unit_name(number)}{ending}", number=number, size=size)
        for number in range(start, end)
    )
    more = start < end < num_units
    token = f"<NextContinuationToken>{end}</NextContinuationToken>" if more else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>'
        f"<Name>bucket</Name><KeyCount>{end - start}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>"
        f"{token}{entries}</ListBucketResult>"
    )
