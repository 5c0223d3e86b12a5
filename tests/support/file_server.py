"""A web server on loopback that serves files well, or as badly as a test asks."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """Its files by path, and how it behaves; a test changes either at any time."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    """To another path, as the Hugging Face hub does: with the sha256 of what is there."""
    lie: bool = False
    """About that sha256."""
    ranges: bool = True
    if_range: bool = True
    """False: gives ranges of whatever the file is now."""
    from_anywhere: bool = False
    """Answers 206 with the whole file, whatever part of it was asked for."""
    etags: bool = True
    content_type: str = "application/octet-stream"
    announce_length: bool = True
    """False: chunked, where the length is not known before."""
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Statuses and headers of the next answers."""
    cuts: list[int] = field(default_factory=list)
    """The next answers break off after so many bytes of their body."""
    stall: threading.Event | None = None
    """Instead of breaking off: nothing more comes until this is set."""
    url: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""
    conditions: list[str | None] = field(default_factory=list)
    """If-Range of each request."""
    sent_bytes: int = 0


def etag_of(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: FileServer

    def do_GET(self) -> None:
        server = self.behaviour
        self.close_connection = True
        wanted = self.headers.get("Range")
        server.asked.append((self.path, wanted))
        server.conditions.append(self.headers.get("If-Range"))
        if server.refusals:
            status, headers = server.refusals.pop(0)
            self._answer(status, headers | {"Content-Length": "0"})
        elif self.path in server.redirects:
            target = server.redirects[self.path]
            digest = hashlib.sha256(server.files[target] + b"x" * server.lie).hexdigest()
            self._answer(302, {"Location": target, "X-Linked-ETag": f'"{digest}"', "Content-Length": "0"})
        elif self.path not in server.files:
            self._answer(404, {"Content-Length": "0"})
        else:
            self._serve(server, server.files[self.path], wanted)

    def _serve(self, server: FileServer, content: bytes, wanted: str | None) -> None:
        headers = {"Content-Type": server.content_type} | ({"ETag": etag_of(content)} if server.etags else {})
        condition = self.headers.get("If-Range")
        same = condition in (None, etag_of(content)) or not server.if_range
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges and same else 0
        if start and start >= len(content):
            self._answer(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        partial, start = start > 0, 0 if server.from_anywhere else start
        if partial:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        cut = server.cuts.pop(0) if server.cuts else None
        sent = body if cut is None else body[:cut]
        server.sent_bytes += len(sent)
        if server.announce_length:
            self._answer(206 if partial else 200, headers | {"Content-Length": str(len(body))})
            self.wfile.write(sent)
        else:
            self._answer(206 if partial else 200, headers | {"Transfer-Encoding": "chunked"})
            self.wfile.write(b"%x\r\n%b" % (len(body), sent) + (b"\r\n0\r\n\r\n" if cut is None else b""))
        if cut is not None and server.stall is not None:
            self.wfile.flush()
            server.stall.wait(250)

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Connection": "close"}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@contextmanager
def serve_files(files: dict[str, bytes]) -> Iterator[FileServer]:
    """A server of `files` (by path, beginning with "/") until the block ends."""
    behaviour = FileServer(files=dict(files))
    handler = type("Handler", (_Handler,), {"behaviour": behaviour})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        behaviour.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield behaviour
        finally:
            if behaviour.stall is not None:
                behaviour.stall.set()
            server.shutdown()
            thread.join()
