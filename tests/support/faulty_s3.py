"""A real S3 API server (moto's) on loopback, behind a proxy that injects faults by a seeded plan."""

from __future__ import annotations

import asyncio
import http.client
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from dad_datasets.seeding import generator_for

Fault = Literal["500", "slow_down", "refused", "cut_answer", "lost_answer", "no_such_upload"]

FAULTS: tuple[Fault, ...] = ("500", "slow_down", "refused", "cut_answer", "lost_answer")
"""An internal error; a request to slow down; the connection closed before the server acts, in the middle of its answer,
and after it acted but before it answers. Not among them: the answer of a store that no longer knows an upload."""

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}

BUCKET = "bucket"

_ERROR = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "content-length"})


@dataclass(frozen=True)
class Request:
    """`target` is path and query; `number` counts equal requests, from 0."""

    method: str
    target: str
    number: int

    @property
    def writes(self) -> bool:
        return self.method in ("PUT", "POST", "DELETE")


NOTHING = re.compile("(?!)")

Plan = Callable[[Request], Fault | None]


def no_faults(request: Request) -> Fault | None:
    return None


def seeded_faults(seed: int, share: float, *, in_a_row: int = 1) -> Plan:
    """Each request meets one of FAULTS with probability `share`; sent again `in_a_row` times, it passes."""

    def plan(request: Request) -> Fault | None:
        if request.number % (in_a_row + 1) == in_a_row:
            return None
        rng = generator_for("faults", seed, request.method, request.target, request.number)
        return FAULTS[int(rng.integers(len(FAULTS)))] if rng.random() < share else None

    return plan


@dataclass
class FaultyS3:
    """What a test sees of the server: where it is, what it was asked, and what it is to do wrong."""

    port: int
    url: str
    plan: Plan = no_faults
    heeds_conditions: bool = True
    clock_ahead_s: float = 0.0
    """How far the server's clock has gone on: shows in its Date, not in when objects were written."""
    stalled: re.Pattern[str] = NOTHING
    """Requests ("PUT /bucket/key") that come in and are never heard of again; `stalling` is set when one does."""
    stalling: threading.Event = field(default_factory=threading.Event)
    stall_over: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str]] = field(default_factory=list)
    bytes_served: int = 0
    faults: Counter[Fault] = field(default_factory=Counter)
    numbers: Counter[tuple[str, str]] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    conditional: threading.Lock = field(default_factory=threading.Lock)
    """moto looks and writes in two steps; real conditional writes are atomic."""

    def behave(self) -> None:
        """Do nothing wrong any more, and forget what was asked."""
        self.plan, self.heeds_conditions, self.clock_ahead_s = no_faults, True, 0.0
        self.stalled = NOTHING
        self.stalling.clear()
        self.stall_over.set()
        self.stall_over = threading.Event()
        self.requests.clear()
        self.bytes_served = 0
        self.faults.clear()
        self.numbers.clear()

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Look at who asks: the server knows nobody."""
        self.control("reset-auth", "0")
        try:
            yield
        finally:
            self.control("reset-auth", "inf")

    def control(self, what: str, body: str = "") -> None:
        """Use the server's own controls."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("POST", f"/moto-api/{what}", body=body)
        assert connection.getresponse().status == 200
        connection.close()

    def fault_of(self, method: str, target: str) -> Fault | None:
        with self.lock:
            self.requests.append((method, target))
            number = self.numbers[method, target]
            self.numbers[method, target] += 1
        fault = self.plan(Request(method, target, number))  # which may ask the server for something itself
        if fault is not None:
            with self.lock:
                self.faults[fault] += 1
        return fault


@contextmanager
def faulty_s3() -> Iterator[FaultyS3]:
    """The server with an empty bucket `bucket`, and a proxy of it, to which this process's environment points.

    In this process the client's waits between its retries are a hundredth of what they are.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()

    class Handler(_Proxy):
        upstream = (host, port)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    proxy = Server(("127.0.0.1", 0), Handler)
    Handler.s3 = s3 = FaultyS3(port=proxy.server_port, url=f"http://127.0.0.1:{proxy.server_port}")
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    S3FileSystem.clear_instance_cache()
    try:
        with pytest.MonkeyPatch.context() as environment:
            for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": s3.url}.items():
                environment.setenv(name, value)
            environment.setattr("asyncio.sleep", _short_sleep)
            s3.control("reset")  # what it holds is the process's
            S3FileSystem().mkdir(BUCKET)
            s3.behave()
            yield s3
    finally:
        s3.stall_over.set()
        S3FileSystem.clear_instance_cache()
        proxy.shutdown()
        proxy.server_close()
        thread.join()
        moto.stop()


_sleep = asyncio.sleep


async def _short_sleep(delay: float) -> None:
    await _sleep(delay / 100)


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: FaultyS3
    upstream: tuple[str, int]

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):  # the client was killed
            self.close_connection = True

    def _proxied(self) -> None:
        body = self._body()
        fault = self.s3.fault_of(self.command, self.path)
        if self.s3.stalled.search(f"{self.command} {self.path}"):
            over = self.s3.stall_over
            self.s3.stalling.set()
            over.wait()
            fault = "refused"
        if fault == "refused":
            self._hang_up()
        elif fault == "500":
            self._answer(500, {}, _ERROR.format(code="InternalError", message="Something went wrong.").encode())
        elif fault == "no_such_upload":
            self._answer(404, {}, _ERROR.format(code="NoSuchUpload", message="There is no such upload.").encode())
        elif fault == "slow_down":
            self._answer(503, {}, _ERROR.format(code="SlowDown", message="Please reduce your request rate.").encode())
        else:
            status, headers, content = self._forwarded(body)
            if fault == "lost_answer":
                self._hang_up()
            else:
                self._answer(status, headers, content, cut=fault == "cut_answer")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _proxied  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            content = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return content
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _forwarded(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers.pop("Expect", None)
        condition = [name for name in headers if name.lower() in ("if-match", "if-none-match")]
        if self.command not in ("PUT", "DELETE"):
            condition = []
        if not self.s3.heeds_conditions:
            for name in condition:
                del headers[name]
        connection = http.client.HTTPConnection(*self.upstream, timeout=60)
        if condition:
            with self.s3.conditional:
                return self._exchange(connection, headers, body)
        return self._exchange(connection, headers, body)

    def _exchange(
        self, connection: http.client.HTTPConnection, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        if self.command == "HEAD":
            kept["Content-Length"] = answer.getheader("Content-Length", "0")
        connection.close()
        return answer.status, kept, content

    def _answer(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        headers = {name: value for name, value in headers.items() if name.lower() != "date"}
        headers["Date"] = formatdate(time.time() + self.s3.clock_ahead_s, usegmt=True)
        headers.setdefault("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with self.s3.lock:
                self.s3.bytes_served += len(content)
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def stored(url: str) -> dict[str, bytes]:
    """Every object below an s3:// URL by its name there, but what stands in runs/."""
    filesystem = S3FileSystem(use_listings_cache=False)
    root = url.removeprefix("s3://").rstrip("/")
    names = [path[len(root) + 1 :] for path in filesystem.find(root)]
    return {name: filesystem.cat_file(f"{root}/{name}") for name in names if name.split("/")[0] != "runs"}


def uploads_left() -> int:
    """Multipart uploads that were begun and neither completed nor given up."""
    answer = S3FileSystem(use_listings_cache=False).call_s3("list_multipart_uploads", Bucket=BUCKET)
    return len(answer.get("Uploads", ()))
