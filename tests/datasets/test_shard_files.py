"""Random access to shards: local through memory maps, remote through the bounded cache."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import fsspec
import pytest
from child_process import in_child
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from dad_datasets.cache_folder import CacheFolder, default_cache_folder
from dad_datasets.errors import UserError
from dad_datasets.mapped_files import MOST_OPEN, MappedFiles
from dad_datasets.seeding import generator_for
from dad_datasets.shard_cache import CachedFiles
from dad_datasets.shard_files import ShardFiles

SIZE = 10_000
SHARDS = {f"u-{part:05d}": generator_for("shard", part).bytes(SIZE) for part in range(4)}
BIG = 100 * SIZE


def put_shards(root: Path) -> Path:
    (root / "shards").mkdir(parents=True)
    for unit, content in SHARDS.items():
        (root / "shards" / f"{unit}.tar").write_bytes(content)
    return root


def all_members(files: ShardFiles) -> list[bytes]:
    return [files.read(unit, offset, 1000) for offset in range(0, SIZE, 1000) for unit in SHARDS]


MEMBERS = [content[offset : offset + 1000] for offset in range(0, SIZE, 1000) for content in SHARDS.values()]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_shards(tmp_path_factory.mktemp("set"))


@pytest.fixture
def remote() -> Iterator[str]:
    filesystem = fsspec.filesystem("memory")
    for unit, content in SHARDS.items():
        filesystem.pipe_file(f"/set/shards/{unit}.tar", content)
    yield "memory://set"
    filesystem.rm("/set", recursive=True)


@given(unit=st.sampled_from(sorted(SHARDS)), offset=st.integers(0, SIZE), data=st.data())
def test_local_reads_are_slices(local: Path, unit: str, offset: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, SIZE - offset))
    assert ShardFiles(str(local)).read(unit, offset, length) == SHARDS[unit][offset : offset + length]


def test_local_in_children_and_pickled(local: Path) -> None:
    files = ShardFiles(f"file://{local}")
    assert all_members(files) == MEMBERS
    assert in_child(partial(all_members, files), partial(all_members, files)) == [MEMBERS, MEMBERS]
    assert all_members(pickle.loads(pickle.dumps(files))) == MEMBERS


def test_children_and_copies_open_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    files = MappedFiles()
    assert files.read(str(path), 0, 3) == b"old"
    (tmp_path / "b").write_bytes(b"new")
    (tmp_path / "b").rename(path)
    assert files.read(str(path), 0, 3) == b"old"
    assert in_child(partial(files.read, str(path), 0, 3)) == [b"new"]
    assert pickle.loads(pickle.dumps(files)).read(str(path), 0, 3) == b"new"


def test_only_so_many_maps_stay_open_through_whichever_datasets(tmp_path: Path) -> None:
    datasets = [MappedFiles(), MappedFiles()]
    for number in range(MOST_OPEN + 3):
        (tmp_path / f"map{number:03d}").write_bytes(b"%03d" % number)
        assert datasets[number % 2].read(f"{tmp_path}/map{number:03d}", 0, 3) == b"%03d" % number
    maps = Path("/proc/self/maps").read_text()
    assert [n for n in range(MOST_OPEN + 3) if f"{tmp_path}/map{n:03d}" in maps] == list(range(3, MOST_OPEN + 3))


def test_a_dataset_opened_anew_reads_what_is_there_now(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        (tmp_path / "b").write_bytes(content)
        (tmp_path / "b").rename(tmp_path / "a")
        assert MappedFiles().read(str(tmp_path / "a"), 0, 3) == content


@pytest.mark.parametrize(("offset", "length"), [(SIZE - 5, 6), (SIZE + 1, 1), (-5, 5), (0, SIZE + 1)])
def test_a_truncated_shard_is_named(local: Path, remote: str, tmp_path: Path, offset: int, length: int) -> None:
    for url in (str(local), remote):
        with pytest.raises(UserError, match=r"shards/u-00001\.tar: holds no .* the shard is truncated"):
            ShardFiles(url, tmp_path).read("u-00001", offset, length)


def test_a_missing_or_empty_shard_is_named(local: Path, remote: str, tmp_path: Path) -> None:
    for url in (str(local), remote):
        with pytest.raises(UserError, match=r"shards/nosuch\.tar: the shard is missing"):
            ShardFiles(url, tmp_path).read("nosuch", 0, 1)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "empty.tar").touch()
    with pytest.raises(UserError, match="truncated"):
        ShardFiles(str(tmp_path)).read("empty", 0, 1)


def test_remote_shards_are_fetched_once(remote: str, tmp_path: Path) -> None:
    with mock.patch.object(MemoryFileSystem, "get_file", autospec=True, side_effect=MemoryFileSystem.get_file) as get:
        files = ShardFiles(remote, tmp_path, BIG)
        assert all_members(files) == MEMBERS
        assert all_members(pickle.loads(pickle.dumps(files))) == MEMBERS
        assert in_child(partial(all_members, files)) == [MEMBERS]
    assert get.call_count == len(SHARDS)


def copies(folder: Path) -> list[str]:
    return sorted(path.name[33:] for path in folder.iterdir() if path.name[32:33] == "-")


def test_the_least_recently_read_goes_first(remote: str, tmp_path: Path) -> None:
    (tmp_path / "mine.tar").write_bytes(bytes(BIG))
    files = ShardFiles(remote, tmp_path, 2 * SIZE)
    for unit in ("u-00000", "u-00001", "u-00000", "u-00002"):
        files.read(unit, 0, 1)
    assert copies(tmp_path) == ["u-00000.tar", "u-00002.tar"]
    assert files.read("u-00001", 0, SIZE) == SHARDS["u-00001"]
    assert copies(tmp_path) == ["u-00001.tar", "u-00002.tar"]
    assert (tmp_path / "mine.tar").exists()


def test_an_evicted_copy_can_be_read_to_its_end(remote: str, tmp_path: Path) -> None:
    files = CachedFiles(fsspec.filesystem("memory"), tmp_path, SIZE)
    with files.open("/set/shards/u-00000.tar") as copy:
        assert files.read("/set/shards/u-00001.tar", 0, SIZE) == SHARDS["u-00001"]
        assert copies(tmp_path) == ["u-00001.tar"]
        assert copy.read() == SHARDS["u-00000"]


def test_the_bound_holds_at_every_moment(remote: str, tmp_path: Path) -> None:
    limit = 2 * SIZE
    most = 0

    def get_file(filesystem: MemoryFileSystem, path: str, local: str) -> None:
        nonlocal most
        Path(local).write_bytes(filesystem.cat_file(path))
        held = [name for name in os.listdir(tmp_path) if name.endswith((".tar", ".part"))]
        most = max(most, len(held) * SIZE)

    def work(worker: int) -> bool:
        files = ShardFiles(remote, tmp_path, limit)
        order = generator_for("order", worker).permutation(sorted(SHARDS) * 10)
        return all(files.read(unit, 7, 1000) == SHARDS[unit][7:1007] for unit in order)

    with mock.patch.object(MemoryFileSystem, "get_file", get_file), ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert SIZE <= most <= limit
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit


def test_a_shard_over_the_bound_is_refused(remote: str, tmp_path: Path) -> None:
    assert ShardFiles(remote, tmp_path / "fits", SIZE).read("u-00000", 0, SIZE) == SHARDS["u-00000"]
    with pytest.raises(UserError, match=r"u-00000\.tar: has 10,000 bytes, more than the cache may hold \(9,999\)"):
        ShardFiles(remote, tmp_path, SIZE - 1).read("u-00000", 0, 1)


def test_half_a_download_does_not_count(remote: str, tmp_path: Path) -> None:
    def half(filesystem: MemoryFileSystem, path: str, local: str) -> None:
        Path(local).write_bytes(bytes(SIZE // 2))

    def interrupted(filesystem: MemoryFileSystem, path: str, local: str) -> None:
        half(filesystem, path, local)
        raise KeyboardInterrupt

    def broken(filesystem: MemoryFileSystem, path: str, local: str) -> None:
        raise ConnectionResetError("gone")

    failures: list[tuple[Callable[..., None], type[BaseException], str | None]] = [
        (half, UserError, r"u-00000\.tar: 5,000 bytes arrived of 10,000"),
        (interrupted, KeyboardInterrupt, None),
        (broken, UserError, r"u-00000\.tar: the store failed or could not be reached \(gone\)"),
    ]
    for get_file, error, message in failures:
        with (
            mock.patch.object(MemoryFileSystem, "get_file", get_file),
            pytest.raises(error, match=message),
        ):
            ShardFiles(remote, tmp_path, SIZE).read("u-00000", 0, 1)
        assert set(os.listdir(tmp_path)) == {".lock"}
    assert ShardFiles(remote, tmp_path, SIZE).read("u-00000", 0, SIZE) == SHARDS["u-00000"]


@pytest.mark.parametrize("unit", ["u-00000", "u-00001"])
def test_what_a_killed_process_left_is_no_obstacle(remote: str, tmp_path: Path, unit: str) -> None:
    def killed(filesystem: MemoryFileSystem, path: str, local: str) -> None:
        Path(local).write_bytes(bytes(SIZE // 2))
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        with mock.patch.object(MemoryFileSystem, "get_file", killed):
            ShardFiles(remote, tmp_path, SIZE).read("u-00000", 0, 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert {name[33:] for name in os.listdir(tmp_path)} == {"", "u-00000.tar.ticket", "u-00000.tar.part"}
    assert ShardFiles(remote, tmp_path, SIZE).read(unit, 0, SIZE) == SHARDS[unit]
    assert {name[33:] for name in os.listdir(tmp_path)} == {"", f"{unit}.tar"}


def test_a_copy_that_was_cut_short_is_replaced(remote: str, tmp_path: Path) -> None:
    files = ShardFiles(remote, tmp_path, BIG)
    files.read("u-00000", 0, 1)
    copy = next(path for path in tmp_path.iterdir() if path.suffix == ".tar")
    copy.write_bytes(bytes(100))
    assert files.read("u-00000", 0, SIZE) == SHARDS["u-00000"]


def test_a_shard_that_was_written_again_is_fetched_again(remote: str, tmp_path: Path) -> None:
    files = ShardFiles(remote, tmp_path, BIG)
    assert files.read("u-00000", 0, SIZE) == SHARDS["u-00000"]
    fsspec.filesystem("memory").pipe_file("/set/shards/u-00000.tar", SHARDS["u-00001"])
    assert ShardFiles(remote, tmp_path, BIG).read("u-00000", 0, SIZE) == SHARDS["u-00001"]
    assert files.read("u-00000", 0, SIZE) == SHARDS["u-00000"]


def test_a_size_that_is_not_told_is_refused(remote: str, tmp_path: Path) -> None:
    with (
        mock.patch.object(MemoryFileSystem, "info", return_value={"size": None}),
        pytest.raises(UserError, match=r"u-00000\.tar: its server does not tell its size"),
    ):
        ShardFiles(remote, tmp_path).read("u-00000", 0, 1)


def test_a_cache_folder_that_cannot_be_is_named(remote: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/cache"):
        ShardFiles(remote, tmp_path / "file" / "cache").read("u-00000", 0, 1)


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, remote: str, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ShardFiles(remote).read("u-00000", 0, 1)
    assert copies(tmp_path / "dad" / "shards") == ["u-00000.tar"]
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == Path.home() / ".cache" / "dad" / "shards"


def test_one_of_many_threads_fetches(tmp_path: Path) -> None:
    at_once = 8
    barrier = threading.Barrier(at_once)
    fetches: list[Path] = []

    def fetch(path: Path) -> None:
        fetches.append(path)
        path.write_bytes(b"four")

    def read(_: int) -> bytes:
        barrier.wait()
        with CacheFolder(tmp_path, 100).fetched(f"{0:032x}-x", 4, fetch, origin="x") as copy:
            return copy.read()

    with ThreadPoolExecutor(at_once) as pool:
        assert set(pool.map(read, range(at_once))) == {b"four"}
    assert len(fetches) == 1


@pytest.fixture
def http(local: Path) -> Iterator[tuple[str, Counter[str]]]:
    """The shards on a loopback server, and how often each was asked for."""
    requests: Counter[str] = Counter()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            requests[self.path] += 1
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(local))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
        server.shutdown()
        thread.join()


def test_processes_share_what_one_of_them_fetched(http: tuple[str, Counter[str]], tmp_path: Path) -> None:
    url, requests = http
    files = ShardFiles(url, tmp_path, BIG)
    files.read("u-00000", 0, 1)  # so that the children inherit a filesystem that was in use
    assert in_child(*[partial(all_members, files)] * 3) == [MEMBERS] * 3
    assert requests == {f"/shards/{unit}.tar": 1 for unit in SHARDS}


def test_processes_share_too_small_a_cache(http: tuple[str, Counter[str]], tmp_path: Path) -> None:
    files = ShardFiles(http[0], tmp_path, SIZE)
    assert in_child(*[partial(all_members, files)] * 3) == [MEMBERS] * 3
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= SIZE
