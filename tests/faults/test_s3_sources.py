"""Clean data read from S3: what a local copy gives, whatever the server does, and no more of it loaded than needed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faulty_s3 import FaultyS3, seeded_faults
from s3fs import S3FileSystem

from dad_datasets.remote_stream import BLOCK_BYTES, RemoteStream
from dad_datasets.seeding import generator_for
from dad_datasets.sources import CleanSample, CleanSource, SourceSettings, open_source
from dad_datasets.sources.source_files import find_files
from dad_datasets.sources.tar_listing import walk_tar
from dad_datasets.store_errors import StoreError

JPEG = b"\xff\xd8\xff"


def tar_of(sizes: list[int], name: str) -> bytes:
    """Samples with images of so many random bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for number, size in enumerate(sizes):
            image = JPEG + generator_for(name, number).bytes(size)
            for suffix, content in (("cls", b"%d" % (number % 3)), ("jpg", image)):
                member = tarfile.TarInfo(f"{number:04d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def parquet_of(count: int) -> bytes:
    stream = io.BytesIO()
    images = [JPEG + generator_for("parquet", number).bytes(1000) for number in range(count)]
    table = pa.table({"image": pa.array(images, pa.binary()), "label": [number % 3 for number in range(count)]})
    pq.write_table(table, stream, row_group_size=20)
    return stream.getvalue()


def write_source(layout: str, folder: Path) -> None:
    files: dict[str, bytes] = {}
    if layout == "tars":
        files = {f"{stem}.tar": tar_of([1000 + 37 * n for n in range(30)], stem) for stem in ("a", "b", "c")}
    elif layout == "parquet":
        files = {"a.parquet": parquet_of(50)}
    else:
        files = {f"class{n % 3}/{n}.jpg": JPEG + generator_for("folder", n).bytes(500) for n in range(20)}
        files["class0/empty.jpg"] = b""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def read_all(source: CleanSource) -> list[CleanSample]:
    return [sample for unit in source.plan(16) for sample in source.read(unit)]


@pytest.mark.parametrize("layout", ["tars", "parquet", "folder"])
def test_remote_samples_are_those_of_a_local_copy(s3: FaultyS3, tmp_path: Path, layout: str) -> None:
    write_source(layout, tmp_path / "photos")
    S3FileSystem().put(str(tmp_path / "photos"), f"bucket/{layout}/photos", recursive=True)
    S3FileSystem().invalidate_cache()
    local = open_source(SourceSettings(path=str(tmp_path / "photos")))
    s3.plan = seeded_faults(4, 0.6)
    remote = open_source(SourceSettings(path=f"s3://bucket/{layout}/photos"), cache=tmp_path / "cache")
    samples = read_all(local)
    assert remote.identity() == local.identity()
    assert list(remote.plan(16)) == list(local.plan(16))
    assert read_all(remote) == samples
    for sample in [sample for sample in samples if not sample.problem][::7]:
        assert remote.fetch(sample.source_key) == sample.image
    bad = {sample.source_key: sample.problem for sample in samples if sample.problem}
    assert bad == ({"class0/empty.jpg": "image is empty"} if layout == "folder" else {})
    for key in bad:
        with pytest.raises(KeyError):
            remote.fetch(key)
    assert s3.faults


def test_a_server_that_fails_makes_no_bad_rows(s3: FaultyS3, tmp_path: Path) -> None:
    # A row with a reason would stay; the unit has to be tried again instead.
    write_source("folder", tmp_path / "photos")
    S3FileSystem().put(str(tmp_path / "photos"), "bucket/failing/photos", recursive=True)
    source = open_source(SourceSettings(path="s3://bucket/failing/photos"))
    (unit,) = source.plan(100)
    s3.plan = lambda request: "500"
    with pytest.raises(StoreError, match=r"^s3://bucket/failing/photos/class\d/\d+\.jpg: the store failed"):
        next(iter(source.read(unit)))


def test_headers_are_read_without_the_large_members_between_them(s3: FaultyS3) -> None:
    size = 3 * BLOCK_BYTES
    content = tar_of([size] * 4, "large")
    S3FileSystem().pipe_file("bucket/large/a.tar", content)
    (file,) = find_files("s3://bucket/large/a.tar")
    s3.behave()
    with file.open() as tar:
        remote = list(walk_tar(tar, file.size))
    assert remote == list(walk_tar(io.BytesIO(content), len(content)))
    assert s3.bytes_served < 6 * BLOCK_BYTES < len(content) / 2


def test_small_members_are_read_many_to_a_request(s3: FaultyS3) -> None:
    S3FileSystem().pipe_file("bucket/small/a.tar", tar_of([1000] * 500, "small"))
    source = open_source(SourceSettings(path="s3://bucket/small/a.tar"))
    s3.behave()
    assert len(read_all(source)) == 500
    # Planned, listed, and read unit by unit: each opens the tar and loads its one block.
    assert len([target for method, target in s3.requests if method == "GET"]) <= 2 + 32


def test_a_stream_reads_as_a_file_does(s3: FaultyS3) -> None:
    content = generator_for("stream").bytes(2 * BLOCK_BYTES + 1000)
    filesystem = S3FileSystem()
    filesystem.pipe_file("bucket/stream", content)
    rng = generator_for("stream", "reads")
    with RemoteStream(filesystem, "bucket/stream") as stream, io.BytesIO(content) as local:
        assert stream.readable()
        assert stream.seekable()
        for _ in range(200):
            whence = int(rng.integers(3))
            offset = int(rng.integers(len(content))) if whence == 0 else -int(rng.integers(local.tell() + 1))
            assert stream.seek(offset, whence) == local.seek(offset, whence)
            wanted = int(rng.integers(2000))
            assert stream.read(wanted) == local.read(wanted)
            assert stream.tell() == local.tell()
        ours, theirs = bytearray(100), bytearray(100)
        assert stream.readinto(ours) == local.readinto(theirs)
        assert ours == theirs
        stream.seek(0)
        assert stream.read() == content
    assert stream.closed
    assert sum(method == "GET" for method, _ in s3.requests) <= 12
