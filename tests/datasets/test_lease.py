"""The lease: one living holder at a time, and dead ones do not lock for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from dad_datasets.errors import UserError
from dad_datasets.layout import LEASE
from dad_datasets.lease import Lease

HOLDER = """
import sys, threading
from pathlib import Path
from dad_datasets.lease import Lease
with Lease(Path(sys.argv[1])):
    print("held", flush=True)
    threading.Event().wait()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease of `tmp_path`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def write_lease(folder: Path, name: str = LEASE, *, age_s: float = 0.0, **holder: str | int | bool) -> None:
    path = folder / name
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7, "kernel": "another", "locked": True, **holder}))
    changed = path.stat().st_mtime - age_s
    os.utime(path, (changed, changed))


def test_the_second_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    with Lease(tmp_path):
        for _ in range(2):
            with pytest.raises(UserError, match=rf"being written by another run \(process {os.getpid()} on"):
                Lease(tmp_path).__enter__()
    with Lease(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_an_error_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Lease(tmp_path / "new"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path / "new") == []


def test_a_killed_holder_is_replaced_at_once(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(UserError, match=rf"process {holder.pid} on"):
        Lease(tmp_path).__enter__()
    holder.kill()
    holder.wait()
    assert os.listdir(tmp_path) == [LEASE]
    with Lease(tmp_path):
        assert json.loads((tmp_path / LEASE).read_text())["pid"] == os.getpid()


def test_a_process_id_used_again_does_not_keep_a_dead_lease(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    document = json.loads((tmp_path / LEASE).read_text())
    (tmp_path / LEASE).write_text(json.dumps({**document, "pid": os.getpid()}))
    with Lease(tmp_path):
        pass


def test_another_machine_keeps_its_lease_until_it_expires(tmp_path: Path) -> None:
    write_lease(tmp_path, age_s=5)
    with pytest.raises(UserError, match="process 7 on elsewhere"):
        Lease(tmp_path, expiry_s=60).__enter__()
    with Lease(tmp_path, expiry_s=1):
        assert json.loads((tmp_path / LEASE).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", ["", "[]", "\x00"])
def test_a_file_that_is_no_lease_expires(tmp_path: Path, content: str) -> None:
    (tmp_path / LEASE).write_text(content)
    with pytest.raises(UserError, match="process unknown on an unknown host"):
        Lease(tmp_path).__enter__()
    with Lease(tmp_path, expiry_s=0):
        pass


def test_without_locks_the_heartbeat_decides(tmp_path: Path) -> None:
    with mock.patch("fcntl.flock", side_effect=OSError(38, "Function not implemented")):
        with Lease(tmp_path), pytest.raises(UserError, match="being written"):
            Lease(tmp_path).__enter__()
        write_lease(tmp_path, age_s=61)
        with Lease(tmp_path):
            pass


@pytest.fixture
def beaten() -> Iterator[threading.Event]:
    """Set after each heartbeat."""
    event, utime = threading.Event(), os.utime

    def spy(target: int | Path, times: tuple[float, float] | None = None) -> None:
        utime(target, times)
        if times is None:
            event.set()

    with mock.patch("os.utime", spy):
        yield event


def test_the_heartbeat_shows(tmp_path: Path, beaten: threading.Event) -> None:
    with Lease(tmp_path, heartbeat_s=0.001):
        os.utime(tmp_path / LEASE, (1, 1))
        beaten.clear()
        assert beaten.wait(10)
        assert (tmp_path / LEASE).stat().st_mtime > 1


def test_who_slept_past_the_expiry_leaves_its_successor_alone(tmp_path: Path, beaten: threading.Event) -> None:
    with Lease(tmp_path, heartbeat_s=0.001):
        write_lease(tmp_path, LEASE + "-new", pid=8)
        os.utime(tmp_path / f"{LEASE}-new", (1, 1))
        (tmp_path / f"{LEASE}-new").replace(tmp_path / LEASE)  # as another machine does with a lease that seems dead
        for _ in range(2):  # the first may have begun before
            beaten.clear()
            assert beaten.wait(10)
    assert json.loads((tmp_path / LEASE).read_text())["pid"] == 8
    assert (tmp_path / LEASE).stat().st_mtime == 1


def test_of_many_that_find_a_dead_lease_one_wins(tmp_path: Path) -> None:
    for _ in range(20):
        write_lease(tmp_path, age_s=100)
        start, decided = threading.Barrier(8), threading.Barrier(8)
        won: list[int] = []

        def race(number: int, start: threading.Barrier, decided: threading.Barrier, won: list[int]) -> None:
            lease = Lease(tmp_path)
            start.wait()
            try:
                lease.__enter__()
            except UserError:
                decided.wait()
                return
            won.append(number)
            decided.wait()  # nobody leaves before all have tried
            lease.__exit__(None, None, None)

        racers = [threading.Thread(target=race, args=(number, start, decided, won)) for number in range(8)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert len(won) == 1


def test_a_lease_taken_meanwhile_is_not_removed(tmp_path: Path) -> None:
    # Between opening a dead lease and locking it, another run takes it over.
    write_lease(tmp_path, age_s=100)
    first, second = Lease(tmp_path), Lease(tmp_path)
    is_at_path = Lease._is_at_path
    entered: list[Lease] = []

    def overtaken(lease: Lease, file: object) -> bool:
        if lease is second and not entered:
            (tmp_path / LEASE).unlink()
            entered.append(first.__enter__())
        return is_at_path(lease, file)  # type: ignore[arg-type]

    with mock.patch.object(Lease, "_is_at_path", overtaken), pytest.raises(UserError, match=f"process {os.getpid()}"):
        second.__enter__()
    assert entered == [first]
    first.__exit__(None, None, None)
    assert os.listdir(tmp_path) == []


def test_a_forked_child_does_not_keep_the_lock_of_a_run_that_is_gone(tmp_path: Path) -> None:
    # As loader workers do: the parent is killed, the child lives on.
    ready, hold = os.pipe(), os.pipe()
    parent = os.fork()
    if parent == 0:
        Lease(tmp_path).__enter__()
        if os.fork() == 0:
            os.write(ready[1], b"child")
            os.read(hold[0], 1)
            os._exit(0)
        os.read(hold[0], 1)
        os._exit(0)
    os.read(ready[0], 5)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        with Lease(tmp_path):
            pass
    finally:
        os.write(hold[1], b"x")
