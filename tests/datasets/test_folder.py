"""Folders: whole files or none, local and remote alike."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dad_datasets.errors import UserError
from dad_datasets.folder import TEMPORARY_PREFIX, Folder, LocalFolder, local_path, open_folder, require_writable
from dad_datasets.remote_folder import RemoteFolder


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    if request.param == "local":
        yield open_folder(tmp_path / "out")
        return
    yield open_folder("memory://out-of-tests")
    memory = fsspec.filesystem("memory")
    if memory.exists("/out-of-tests"):
        memory.rm("/out-of-tests", recursive=True)


def publish(folder: Folder, name: str, content: bytes) -> None:
    with folder.publish(name) as stream:
        stream.write(content)


def break_off(folder: Folder, name: str, error: type[BaseException]) -> None:
    with folder.publish(name) as stream:
        stream.write(b"half")
        raise error


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_before_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    final = tmp_path / "shards" / "a.tar"

    def note(descriptor: int) -> None:
        opened = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((opened.read_text() if opened.is_file() else opened.name, final.exists()))

    monkeypatch.setattr(os, "fsync", note)
    publish(open_folder(tmp_path), "shards/a.tar", b"whole")
    assert synced == [("whole", False), ("shards", True)]


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    publish(open_folder("~/out"), "a.txt", b"a")
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"a"
    assert local_path("~/out", option="--out") == tmp_path / "out"


def test_what_is_published_is_there(folder: Folder) -> None:
    assert folder.names("shards") == []
    assert not folder.exists("shards/b.tar")
    publish(folder, "shards/b.tar", b"12345")
    publish(folder, "shards/a.tar", b"1")
    publish(folder, "top.json", b"{}")
    assert folder.names("shards") == ["a.tar", "b.tar"]
    assert folder.names("") == ["top.json"]
    assert folder.exists("shards/b.tar")
    assert folder.size("shards/b.tar") == 5
    with folder.open("shards/b.tar") as stream:
        stream.seek(2)
        assert stream.read() == b"345"
    publish(folder, "shards/b.tar", b"new")
    assert folder.size("shards/b.tar") == 3
    folder.remove("shards/b.tar")
    assert folder.names("shards") == ["a.tar"]


def test_missing_files_are_named_so(folder: Folder) -> None:
    with pytest.raises(FileNotFoundError):
        folder.open("a")
    with pytest.raises(FileNotFoundError):
        folder.size("a")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing(folder: Folder, error: type[BaseException]) -> None:
    publish(folder, "a", b"old")
    for name in ("a", "b"):
        with pytest.raises(error):
            break_off(folder, name, error)
    assert folder.names("") == ["a"]
    assert folder.size("a") == 3
    if isinstance(folder, LocalFolder):
        assert os.listdir(folder.path) == ["a"]


def test_a_file_being_written_is_not_seen(folder: Folder) -> None:
    with folder.publish("a") as stream:
        stream.write(b"half")
        stream.flush()
        assert folder.names("") == []
        assert not folder.exists("a")


def test_a_concurrent_reader_sees_whole_files_only(tmp_path: Path) -> None:
    folder, contents = LocalFolder(tmp_path), [bytes([value]) * 300_000 for value in range(1, 9)]
    publish(folder, "a", contents[0])
    done = threading.Event()

    def write() -> None:
        for content in contents * 5:
            publish(folder, "a", content)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        with folder.open("a") as stream:
            seen.add(stream.read())
    writer.join()
    assert seen <= set(contents)


def test_sweep_removes_what_killed_writers_left(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    publish(folder, "shards/a.tar", b"1")
    (tmp_path / "shards" / f"{TEMPORARY_PREFIX}0123-b.tar").write_bytes(b"half")
    assert folder.names("shards") == ["a.tar"]
    assert folder.sweep() == 1
    assert os.listdir(tmp_path / "shards") == ["a.tar"]
    assert folder.sweep() == 0


def test_a_writable_folder_is_left_as_it_was(folder: Folder) -> None:
    require_writable(folder)
    assert folder.names("") == []


@pytest.mark.parametrize("place", ["file", "file/below", "file/far/below"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"the output directory .*file.* cannot be written: "):
        require_writable(LocalFolder(tmp_path / place))


def test_addresses(tmp_path: Path) -> None:
    for address in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        folder = open_folder(address)
        assert isinstance(folder, LocalFolder)
        assert folder.path == tmp_path
    assert isinstance(open_folder("memory://x"), RemoteFolder)
    with pytest.raises(UserError, match=r"^nosuch://x: Protocol not known: nosuch"):
        open_folder("nosuch://x")


class ListingsKept(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """As s3fs: a listing is asked for once, then remembered."""

    protocol = "listings-kept"

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        if path in self.dircache:
            return self.dircache[path]
        self.dircache[path] = listed = super().ls(path, detail=detail)
        return listed

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("listings-kept://")))


def test_files_of_other_processes_are_listed() -> None:
    fsspec.register_implementation("listings-kept", ListingsKept, clobber=True)
    folder = open_folder("listings-kept://others")
    memory = fsspec.filesystem("memory")
    try:
        memory.pipe("/others/a", b"")
        assert folder.names("") == ["a"]
        memory.pipe("/others/b", b"")
        assert folder.names("") == ["a", "b"]
    finally:
        memory.rm("/others", recursive=True)
