"""Receiving a file from a server that breaks off, lies, or changes its mind: the bytes are right, or nothing is."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import fsspec
import pytest
from file_server import FileServer, etag_of, serve_files
from hypothesis import given, settings
from hypothesis import strategies as st

from dad_datasets.errors import UserError
from dad_datasets.seeding import generator_for
from dad_pipeline.fetching.origin import NotThereError, WebPageError, origin_of
from dad_pipeline.fetching.room import require_room
from dad_pipeline.fetching.transfer import LONGEST_WAIT_S, TRIES, ReceivedState, receive, state_path

CONTENT = generator_for("a file").bytes(300_000)
CHANGED = generator_for("another file").bytes(300_000)
PATH = "/weights.ckpt"

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_files({PATH: CONTENT}) as serving:
        yield serving


@dataclass
class Watcher:
    """What a transfer told, and how long it wanted to wait."""

    notes: list[str] = field(default_factory=list)
    shown: list[tuple[int, int | None]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def show(self, received: int, total: int | None) -> None:
        self.shown.append((received, total))

    def note(self, message: str) -> None:
        self.notes.append(message)


def get(
    address: str, file: Path, *, expected_bytes: int | None = None, hash_is_known: bool = False
) -> tuple[ReceivedState, Watcher]:
    watcher = Watcher()
    state = receive(
        origin_of(address),
        file,
        expected_bytes=expected_bytes,
        hash_is_known=hash_is_known,
        require_room=partial(require_room, file.parent),
        report=watcher,
        wait=watcher.waits.append,
    )
    return state, watcher


def cut_once(server: FileServer, file: Path, after: int) -> None:
    """A first run that gives up with `after` bytes."""
    server.cuts = [after]
    server.refusals = []

    def give_up(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        receive(
            origin_of(server.url + PATH),
            file,
            expected_bytes=None,
            hash_is_known=False,
            require_room=lambda num_bytes: None,
            report=Watcher(),
            wait=give_up,
        )
    assert file.stat().st_size == after


def test_a_whole_file(server: FileServer, tmp_path: Path) -> None:
    state, watcher = get(server.url + PATH, tmp_path / "file", expected_bytes=len(CONTENT))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert (state.total_bytes, state.sha256) == (len(CONTENT), None)
    assert watcher.shown[-1] == (len(CONTENT), len(CONTENT))
    assert watcher.waits == []
    get(server.url + PATH, tmp_path / "file")
    assert len(server.asked) == 1  # what is whole is not asked for again


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, len(CONTENT) - 1), max_size=TRIES - 1), chunked=st.booleans())
def test_cuts_anywhere_cost_no_byte_twice(cuts: list[int], chunked: bool) -> None:
    with serve_files({PATH: CONTENT}) as server, tempfile.TemporaryDirectory() as folder:
        server.cuts, server.announce_length = list(cuts), not chunked
        file = Path(folder) / "file"
        get(server.url + PATH, file)
        assert file.read_bytes() == CONTENT
        assert server.sent_bytes <= len(CONTENT) + (sum(cuts) if chunked else 0)  # a cut chunk may be lost as a whole


def test_the_next_run_goes_on(server: FileServer, tmp_path: Path) -> None:
    cut_once(server, tmp_path / "file", 123_456)
    get(server.url + PATH, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.asked[1:] == [(PATH, "bytes=123456-")]
    assert server.conditions[1:] == [etag_of(CONTENT)]
    assert server.sent_bytes == len(CONTENT)


def test_a_server_without_ranges_starts_anew(server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    server.cuts = [100_000, 250_000]
    get(server.url + PATH, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_range_than_asked_for_is_not_taken(server: FileServer, tmp_path: Path) -> None:
    cut_once(server, tmp_path / "file", 100_000)
    server.from_anywhere = True
    get(server.url + PATH, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_is_not_pieced_together(server: FileServer, tmp_path: Path, if_range: bool) -> None:
    cut_once(server, tmp_path / "file", 100_000)
    server.files[PATH], server.if_range = CHANGED, if_range
    get(server.url + PATH, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CHANGED


@pytest.mark.parametrize("length", [1000, 100_000])
def test_a_file_that_became_shorter_than_what_is_here(server: FileServer, tmp_path: Path, length: int) -> None:
    cut_once(server, tmp_path / "file", 100_000)
    server.files[PATH], server.if_range = CHANGED[:length], False
    get(server.url + PATH, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CHANGED[:length]


@pytest.mark.parametrize(("hash_is_known", "asked"), [(True, "bytes=100000-"), (False, None)])
def test_without_a_validator_only_a_known_hash_lets_it_go_on(
    server: FileServer, tmp_path: Path, hash_is_known: bool, asked: str | None
) -> None:
    server.etags = False
    cut_once(server, tmp_path / "file", 100_000)
    get(server.url + PATH, tmp_path / "file", hash_is_known=hash_is_known)
    assert server.asked[-1] == (PATH, asked)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_another_address_starts_anew(server: FileServer, tmp_path: Path) -> None:
    cut_once(server, tmp_path / "file", 100_000)
    server.files["/mirror"] = CONTENT
    get(server.url + "/mirror", tmp_path / "file")
    assert server.asked[-1] == ("/mirror", None)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_an_unreadable_state_starts_anew(server: FileServer, tmp_path: Path) -> None:
    cut_once(server, tmp_path / "file", 100_000)
    state_path(tmp_path / "file").write_text('{"of": "another version"}')
    get(server.url + PATH, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_an_overloaded_server_is_waited_for(server: FileServer, tmp_path: Path) -> None:
    server.refusals = [(503, {}), (502, {}), (429, {"Retry-After": "20"}), (503, {"Retry-After": "9999"})]
    _, watcher = get(server.url + PATH, tmp_path / "file")
    assert watcher.waits == [1, 2, 20, 60]
    assert watcher.notes[0].startswith("HTTP 503 Service Unavailable; 0 bytes are here, next try in 1 s")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_tries_are_counted_from_the_last_progress(server: FileServer, tmp_path: Path) -> None:
    cut_once(server, tmp_path / "file", 100_000)
    server.refusals = [(503, {})] * TRIES
    with pytest.raises(UserError, match=r"503 .*, 6 times in a row; 100,000 bytes are kept"):
        get(server.url + PATH, tmp_path / "file")
    server.cuts = [1] * (TRIES + 3)
    _, watcher = get(server.url + PATH, tmp_path / "file")
    assert watcher.waits == [1] * (TRIES + 3)
    assert max(watcher.waits) < LONGEST_WAIT_S
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_nobody_there(server: FileServer, tmp_path: Path) -> None:
    with serve_files({}) as gone:
        pass
    with pytest.raises(UserError, match="refused, 6 times in a row; 0 bytes are kept"):
        get(gone.url + PATH, tmp_path / "file")


@pytest.mark.parametrize(("status", "kind"), [(404, NotThereError), (410, NotThereError), (403, UserError)])
def test_a_refusal_is_not_repeated(server: FileServer, tmp_path: Path, status: int, kind: type[UserError]) -> None:
    server.refusals = [(status, {})]
    with pytest.raises(kind, match=rf"weights\.ckpt: HTTP {status} .*--from"):
        get(server.url + PATH, tmp_path / "file")
    assert len(server.asked) == 1


PAGES = [
    (b"<!DOCTYPE html><p>Password", "application/octet-stream"),
    (b"\xef\xbb\xbf \n<html>", "application/octet-stream"),
    (b"Please log in", "text/html; charset=utf-8"),
]


@pytest.mark.parametrize(("page", "content_type"), PAGES)
def test_a_web_page_is_told_and_costs_nothing(
    server: FileServer, tmp_path: Path, page: bytes, content_type: str
) -> None:
    cut_once(server, tmp_path / "file", 100_000)
    server.files[PATH], server.content_type = page, content_type
    with pytest.raises(WebPageError, match="answered with a web page; take the file by hand"):
        get(server.url + PATH, tmp_path / "file")
    server.files[PATH], server.content_type = CONTENT, "application/octet-stream"
    get(server.url + PATH, tmp_path / "file")
    assert server.asked[-1] == (PATH, "bytes=100000-")


def test_another_length_than_published_is_not_even_received(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 300,000 bytes, but 980,092,370 were published"):
        get(server.url + PATH, tmp_path / "file", expected_bytes=980_092_370)
    assert not (tmp_path / "file").exists()


def test_a_full_disk_is_told_before(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_once(server, tmp_path / "file", 100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**6, 800_001, 199_999))
    with pytest.raises(UserError, match="200,000 bytes are needed, 199,999 are free"):
        get(server.url + PATH, tmp_path / "file")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**6, 800_000, 200_000))
    get(server.url + PATH, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_the_hash_that_a_hub_states(server: FileServer, tmp_path: Path) -> None:
    server.redirects["/resolve/main/model"] = PATH
    state, _ = get(server.url + "/resolve/main/model", tmp_path / "file")
    assert state.sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_files_of_ones_own(tmp_path: Path, scheme: str) -> None:
    address = f"{scheme}{tmp_path}/own.ckpt"
    filesystem, path = fsspec.core.url_to_fs(address)
    try:
        filesystem.pipe_file(path, CONTENT)
        get(address, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == CONTENT
        (tmp_path / "file").write_bytes(CONTENT[:1000])
        _, watcher = get(address, tmp_path / "file")
        assert watcher.shown[0][0] > 1000
        assert (tmp_path / "file").read_bytes() == CONTENT
        (tmp_path / "file").write_bytes(CONTENT[:1000])
        filesystem.pipe_file(path, CHANGED)
        get(address, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == CHANGED
    finally:
        filesystem.rm_file(path)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere.ckpt", "no such file"),
        (".", "is a folder"),
        ("nosuch://x/y", "nosuch"),
        ("http://h:x/y", "nonnumeric"),
    ],
)
def test_addresses_that_are_none(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        get(address, tmp_path / "file")
