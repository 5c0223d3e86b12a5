"""A dataset's folder on S3: whole files or none, whatever the server does; one sentence where it cannot be."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from faulty_s3 import FAULTS, Fault, FaultyS3, Request, seeded_faults, stored, uploads_left
from s3fs import S3FileSystem

from dad_datasets import transfers
from dad_datasets.errors import UserError
from dad_datasets.folder import Folder, open_folder, require_writable
from dad_datasets.manifest import read_manifest
from dad_datasets.seeding import generator_for
from dad_datasets.sources import SourceSettings, open_source
from dad_datasets.store_errors import StoreError

OUT = "s3://bucket/out"
PARTED = 2 * transfers.PART_BYTES + 12345
"""Bytes of a file that goes in three parts."""


def publish(folder: Folder, name: str, content: bytes) -> None:
    with folder.publish(name) as stream:
        stream.write(content)


def publish_half(folder: Folder) -> None:
    with folder.publish("a") as stream:
        stream.write(bytes(PARTED))
        raise KeyboardInterrupt


def first_tries(fault: Fault, request: Request) -> Fault | None:
    return fault if request.number == 0 else None


@pytest.mark.parametrize("fault", FAULTS)
def test_each_operation_outlives_each_fault(s3: FaultyS3, fault: Fault) -> None:
    folder = open_folder(OUT)
    s3.plan = partial(first_tries, fault)
    require_writable(folder)
    publish(folder, "shards/a.tar", b"1234567890")
    assert folder.names("shards") == ["a.tar"]
    assert folder.subfolders("") == ["shards"]
    assert folder.size("shards/a.tar") == 10
    assert folder.exists("shards/a.tar")
    assert not folder.exists("shards/b.tar")
    with folder.open("shards/a.tar") as stream:
        stream.seek(4)
        assert stream.read(3) == b"567"
    folder.remove("shards/a.tar")
    assert folder.names("shards") == []
    assert s3.faults[fault] >= 8


def test_a_file_goes_in_one_request(s3: FaultyS3) -> None:
    publish(open_folder(OUT), "shards/a.tar", b"content")
    assert s3.requests == [("PUT", "/bucket/out/shards/a.tar")]


def test_an_error_while_writing_sends_nothing(s3: FaultyS3) -> None:
    folder = open_folder(OUT)
    with pytest.raises(KeyboardInterrupt):
        publish_half(folder)
    assert s3.requests == []


def test_a_large_file_in_parts_under_faults(s3: FaultyS3) -> None:
    content = generator_for("large file").bytes(PARTED)
    s3.plan = seeded_faults(1, 0.5)
    folder = open_folder(OUT)
    publish(folder, "shards/a.tar", content)
    assert sum("partNumber" in target for _, target in s3.requests) >= 3
    assert s3.faults
    with folder.open("shards/a.tar") as stream:
        assert stream.read() == content
    folder.sweep()  # of uploads that were begun without the client hearing of it
    assert uploads_left() == 0


def test_a_completion_whose_answer_is_lost_counts(s3: FaultyS3) -> None:
    # Asked again, a store may know of no such upload any more; moto's remembers.
    completions: list[str] = []

    def plan(request: Request) -> Fault | None:
        if request.method == "POST" and re.search(r"\?uploadId=", request.target):
            completions.append(request.target)
            return {1: "lost_answer", 2: "no_such_upload"}.get(len(completions))  # type: ignore[return-value]
        return None

    s3.plan = plan
    publish(open_folder(OUT), "a", bytes(PARTED))
    assert len(completions) > 1
    assert stored(OUT) == {"a": bytes(PARTED)}


WRITER = f"""
import sys
from dad_datasets.folder import open_folder
with open_folder("{OUT}").publish(sys.argv[1]) as stream:
    stream.write(bytes(int(sys.argv[2])))
"""


@pytest.mark.parametrize(
    ("size", "stalled"), [(100, "PUT /bucket/out/a"), (PARTED, "partNumber=2"), (PARTED, r"POST .*\?uploadId")]
)
def test_a_writer_killed_while_sending_leaves_nothing_to_see(s3: FaultyS3, size: int, stalled: str) -> None:
    folder = open_folder(OUT)
    publish(folder, "b", b"before")
    s3.stalled = re.compile(stalled)
    with subprocess.Popen([sys.executable, "-c", WRITER, "a", str(size)]) as writer:
        assert s3.stalling.wait(60)
        assert folder.names("") == ["b"]
        writer.kill()
    s3.behave()
    assert folder.names("") == ["b"]
    assert not folder.exists("a")
    left = uploads_left()
    assert left == (size == PARTED)
    assert open_folder("s3://bucket/other").sweep() == 0
    assert folder.sweep() == left
    assert uploads_left() == 0
    publish(folder, "a", b"after")
    assert stored(OUT) == {"a": b"after", "b": b"before"}


def test_sweeping_spares_the_uploads_of_labels(s3: FaultyS3) -> None:
    S3FileSystem().call_s3("create_multipart_upload", Bucket="bucket", Key="out/labels/x/shards/a.tar")
    assert open_folder(OUT).sweep() == 0
    assert open_folder(f"{OUT}/labels/x").sweep() == 1


def test_a_failing_server_is_given_up_in_bounded_time(s3: FaultyS3) -> None:
    folder = open_folder(OUT)
    s3.plan = lambda request: "500"
    with pytest.raises(StoreError, match=rf"^{OUT}/a: the store failed or could not be reached \(.*\)$"):
        publish(folder, "a", b"x")
    assert len(s3.requests) == 5 * transfers.TRIES
    for attempt in (lambda: folder.exists("a"), lambda: folder.names(""), lambda: folder.open("a")):
        with pytest.raises(StoreError):  # not: there is none
            attempt()


def test_a_marker_of_the_folder_itself_is_no_file(s3: FaultyS3) -> None:
    # As web consoles make them.
    S3FileSystem().pipe_file("bucket/out/shards/", b"")
    publish(open_folder(OUT), "shards/a.tar", b"x")
    assert open_folder(OUT).names("shards") == ["a.tar"]


def test_a_bucket_that_is_not_there(s3: FaultyS3) -> None:
    nowhere = open_folder("s3://no-such-bucket/out")
    for attempt in (partial(require_writable, nowhere), partial(read_manifest, nowhere), partial(nowhere.names, "")):
        with pytest.raises(UserError, match=r"^s3://no-such-bucket/out.*: there is no such bucket$"):
            attempt()


@pytest.mark.parametrize("name", ["UPPER", "a..b", "under_score!"])
def test_an_impossible_bucket_name(s3: FaultyS3, name: str) -> None:
    with pytest.raises(UserError, match=rf"^s3://{re.escape(name)}/out"):
        require_writable(open_folder(f"s3://{name}/out"))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, UserError, "no credentials (Unable to locate"),
        ({"AWS_SECRET_ACCESS_KEY": None}, UserError, "no credentials (Partial credentials found"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_PROFILE": "nobody"}, UserError, "(nobody) could not be found"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, StoreError, "failed or could not be reached (Could not connect"),
    ],
)
def test_a_wrong_environment_is_told_in_one_sentence(
    s3: FaultyS3, monkeypatch: pytest.MonkeyPatch, change: dict[str, str | None], kind: type[Exception], message: str
) -> None:
    for name, value in change.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    folder = open_folder(OUT)
    for attempt in (partial(read_manifest, folder), partial(folder.names, ""), partial(publish, folder, "a", b"")):
        with pytest.raises(kind, match=rf"^{OUT}.*{re.escape(message)}[^\n]*$"):
            attempt()
    for path in ("s3://bucket/photos", "s3://bucket/photos/{0..3}.tar", "s3://bucket/*.parquet"):
        with pytest.raises(kind, match=rf"^source s3://bucket/.*{re.escape(message)}[^\n]*$"):
            open_source(SourceSettings(path=path))
    S3FileSystem.clear_instance_cache()


def dad(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("dad")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_tells_it_in_one_line(s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3.strict():  # it knows nobody
        refused = dad("prepare", "s3://bucket/photos", OUT)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    nobody = dad("verify", OUT)
    for ended, message in ((refused, "access was refused"), (nobody, "no credentials")):
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1, ended.stderr
        assert message in ended.stderr
