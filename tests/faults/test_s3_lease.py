"""The lease on S3: one living holder at a time by conditional writes, and the server's clock alone says who is dead."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import threading
from functools import partial

import fsspec
import pytest
from faulty_s3 import FAULTS, Fault, FaultyS3, Request, stored
from s3fs import S3FileSystem

from dad_datasets.conditional_object import ConditionalObject
from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.layout import LEASE
from dad_datasets.lease import lease_token, only_writer, under_lease
from dad_datasets.object_lease import EXPIRY_S, LeaseLostError, ObjectLease
from dad_datasets.remote_folder import RemoteFolder

OUT = "s3://bucket/out"


def lease(**options: float) -> ObjectLease:
    return ObjectLease(RemoteFolder(OUT), **options)


def publish(folder: RemoteFolder, name: str, content: bytes = b"x") -> None:
    with folder.publish(name) as stream:
        stream.write(content)


def held() -> dict[str, object]:
    document: dict[str, object] = json.loads(stored(OUT)[LEASE])
    return document


def test_conditional_writes_are_those_of_s3(s3: FaultyS3) -> None:
    # What the lease stands on, and what the server of these tests has to be.
    thing = ConditionalObject(RemoteFolder(OUT), "a")
    assert thing.read() is None
    assert thing.replace(b"0", '"none"') is None
    first = thing.create(b"1")
    assert first is not None
    assert thing.create(b"2") is None
    assert thing.replace(b"2", '"other"') is None
    second = thing.replace(b"2", first)
    assert second not in (None, first)
    assert thing.replace(b"3", first) is None
    thing.remove(first)
    found = thing.read()
    assert found is not None
    assert (found.content, found.etag) == (b"2", second)
    assert 0 <= found.age_s < 60
    assert second is not None
    thing.remove(second)
    thing.remove(second)
    assert thing.read() is None


def test_the_second_is_refused_while_the_first_lives(s3: FaultyS3) -> None:
    with lease():
        for _ in range(2):
            with pytest.raises(UserError, match=rf"^{OUT} is being written by another run \(process \d+ on .*heard of"):
                lease().__enter__()
    with lease():
        pass
    assert stored(OUT) == {}


def test_an_error_frees_the_folder(s3: FaultyS3) -> None:
    with pytest.raises(KeyboardInterrupt), lease():
        raise KeyboardInterrupt
    assert stored(OUT) == {}


HOLDER = f"""
import threading
from dad_datasets.folder import open_folder
from dad_datasets.lease import only_writer
with only_writer(open_folder("{OUT}")):
    print("held", flush=True)
    threading.Event().wait()
"""


def test_a_killed_holder_is_taken_over_once_the_server_says_that_it_is_old(s3: FaultyS3) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    with pytest.raises(UserError, match=rf"process {holder.pid} on"):
        lease().__enter__()
    s3.clock_ahead_s = EXPIRY_S - 30
    with pytest.raises(UserError, match=r"one that was killed is given up after 60 s"):
        lease().__enter__()
    s3.clock_ahead_s = EXPIRY_S + 1
    with lease() as mine:
        assert held()["token"] == mine.token
    assert stored(OUT) == {}


@pytest.mark.parametrize("content", [b"", b"[]", b"\0"])
def test_an_object_that_is_no_lease_expires(s3: FaultyS3, content: bytes) -> None:
    S3FileSystem().pipe_file(f"bucket/out/{LEASE}", content)
    with pytest.raises(UserError, match="process unknown on an unknown host"):
        lease().__enter__()
    with lease(expiry_s=0):
        pass


def test_the_heartbeat_keeps_the_lease_young(s3: FaultyS3) -> None:
    with lease(heartbeat_s=0.01) as mine:
        first = held()["beats"]
        s3.requests.clear()
        while sum(method == "PUT" for method, _ in s3.requests) < 3:
            mine._stop.wait(0.01)
        assert isinstance(first, int)
        assert held()["beats"] > first  # type: ignore[operator]
    assert stored(OUT) == {}


def test_who_was_taken_for_dead_publishes_and_removes_no_more(s3: FaultyS3) -> None:
    slept = RemoteFolder(OUT)
    with ObjectLease(slept, heartbeat_s=1000) as mine:
        elsewhere = open_folder(OUT)
        worker = under_lease(elsewhere, lease_token(slept))
        publish(slept, "index/a")
        with worker.publish("index/b"):
            pass
        with lease(expiry_s=0) as theirs:
            for folder in (slept, worker):
                with pytest.raises(LeaseLostError, match=r"has gone to another run \(process \d+ on .*writes no more"):
                    publish(folder, "index/c")  # type: ignore[arg-type]
                with pytest.raises(LeaseLostError):
                    folder.remove("index/a")
            assert not mine._renew()
            assert held()["token"] == theirs.token
    assert sorted(stored(OUT)) == ["index/a", "index/b"]


def test_a_late_release_leaves_the_successor_alone(s3: FaultyS3) -> None:
    first, second = lease(heartbeat_s=1000), lease(expiry_s=0)
    first.__enter__()
    with second:
        first.__exit__(None, None, None)
        assert held()["token"] == second.token


def test_a_lease_that_was_removed_by_hand_comes_back_unless_another_was_quicker(s3: FaultyS3) -> None:
    folder = RemoteFolder(OUT)
    with ObjectLease(folder, heartbeat_s=1000) as mine:
        folder.remove(LEASE)
        with pytest.raises(LeaseLostError, match="is gone"):
            publish(folder, "a")
        assert mine._renew()
        publish(folder, "a")
        folder.remove(LEASE)
        with lease():
            assert not mine._renew()


def test_of_many_that_find_a_dead_lease_one_wins(s3: FaultyS3) -> None:
    for dead in (True, True, True, False):
        if dead:
            S3FileSystem().pipe_file(f"bucket/out/{LEASE}", b"{}")
        s3.clock_ahead_s = EXPIRY_S + 1 if dead else 0
        start, decided = threading.Barrier(6), threading.Barrier(6)
        won: list[int] = []

        def race(number: int, start: threading.Barrier, decided: threading.Barrier, won: list[int]) -> None:
            mine = lease()
            # What is written in this race must not look old for the clock that has gone on.
            found = mine._object.read()
            start.wait()
            try:
                if found is not None:
                    etag = mine._object.replace(mine._content(), found.etag)
                else:
                    etag = mine._object.create(mine._content())
            finally:
                decided.wait()
            if etag is not None:
                won.append(number)

        racers = [threading.Thread(target=race, args=(number, start, decided, won)) for number in range(6)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert len(won) == 1


def test_who_is_overtaken_between_looking_and_taking_is_refused(s3: FaultyS3) -> None:
    S3FileSystem().pipe_file(f"bucket/out/{LEASE}", b"{}")
    first, second = lease(expiry_s=0), lease(expiry_s=0)
    look = second._object.read
    entered: list[ObjectLease] = []

    def overtaken() -> object:
        found = look()
        if not entered:
            entered.append(first.__enter__())
            second._expiry_s = EXPIRY_S
        return found

    second._object.read = overtaken  # type: ignore[assignment]
    with pytest.raises(UserError, match="being written by another run"):
        second.__enter__()
    assert held()["token"] == first.token
    first.__exit__(None, None, None)


def test_a_holder_that_wakes_up_before_it_is_taken_over_keeps_its_lease(s3: FaultyS3) -> None:
    with lease(heartbeat_s=1000) as mine:
        other = lease(expiry_s=0)
        look = other._object.read

        def woken() -> object:
            found = look()
            if other._expiry_s == 0:
                assert mine._renew()
                other._expiry_s = EXPIRY_S
                assert found is not None
                return dataclasses.replace(found, age_s=EXPIRY_S)
            return found

        other._object.read = woken  # type: ignore[assignment]
        with pytest.raises(UserError, match="being written by another run"):
            other.__enter__()
        assert held()["token"] == mine.token


def first_tries(fault: Fault, request: Request) -> Fault | None:
    return fault if request.number == 0 else None


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_neither_lose_the_lease_nor_leave_it(s3: FaultyS3, fault: Fault) -> None:
    # An answer that is lost makes the client write again, and be refused because of itself.
    folder = RemoteFolder(OUT)
    s3.plan = partial(first_tries, fault)
    with ObjectLease(folder, heartbeat_s=1000) as mine:
        for _ in range(3):
            s3.numbers.clear()
            assert mine._renew()
        publish(folder, "a")
    assert s3.faults[fault] >= 5
    assert stored(OUT) == {"a": b"x"}


def test_the_heartbeat_outlives_a_server_that_is_away(s3: FaultyS3) -> None:
    with lease(heartbeat_s=0.01) as mine:
        s3.plan = lambda request: "500" if request.method == "PUT" else None
        while s3.faults["500"] < 12:  # more than one heartbeat tries
            mine._stop.wait(0.01)
        s3.behave()
        while not any(method == "PUT" for method, _ in s3.requests):
            mine._stop.wait(0.01)
        assert mine._thread.is_alive()
        assert held()["token"] == mine.token


def test_a_store_without_conditional_writes_is_used_with_a_warning(
    s3: FaultyS3, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.heeds_conditions = False
    folder = open_folder(OUT)
    with only_writer(folder):
        assert lease_token(folder) == ""
        with folder.publish("a"):
            pass
    seen = capsys.readouterr().err
    assert re.fullmatch(rf"warning: {OUT}: nothing keeps a second run .*heed conditional writes.*\n", seen)
    assert list(stored(OUT)) == ["a"]


def test_other_stores_are_used_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    with only_writer(open_folder("memory://lease")):
        pass
    assert re.fullmatch(r"warning: memory://lease: nothing keeps .*only of s3:// .*\n", capsys.readouterr().err)
    assert not fsspec.filesystem("memory").exists("/lease")
