"""Tars made to do harm: nothing leaves its place, nothing large is read, nothing runs for ever."""

from __future__ import annotations

import io
import pickle
import resource
import tarfile
from pathlib import Path

import pytest
from hostile_files import Payload, files_below, member, sample, write_hole, write_tar
from typer.testing import CliRunner

from dad_datasets.cli import build_app
from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.index import read_index
from dad_datasets.sources import CleanSample, CleanSource, SourceSettings, open_source
from dad_datasets.sources.tar_listing import DamagedTarError, TarMember, walk_tar
from dad_datasets.sources.tar_samples import group_samples

JPEG = b"\xff\xd8\xff"
LARGE_BYTES = 100 * 2**30


def open_tar(path: Path) -> CleanSource:
    return open_source(SourceSettings(path=str(path)))


def read_all(source: CleanSource) -> list[CleanSample]:
    return [sample for unit in source.plan(1000) for sample in source.read(unit)]


def test_prepare_writes_nowhere_else_and_gives_each_a_reason(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"outside")
    members = [
        sample("good", JPEG),
        sample("/dad-outside/absolute", JPEG),
        sample("../../up", JPEG),
        sample("a/../../../in", JPEG),
        member("soft.jpg", type=tarfile.SYMTYPE, linkname=str(secret)) + member("soft.cls", b"1"),
        member("hard.jpg", type=tarfile.LNKTYPE, linkname=str(secret)) + member("hard.cls", b"1"),
        member("disk.jpg", type=tarfile.BLKTYPE) + member("disk.cls", b"1"),
        member("null.jpg", type=tarfile.CHRTYPE) + member("null.cls", b"1"),
        member("pipe.jpg", type=tarfile.FIFOTYPE) + member("pipe.cls", b"1"),
        member("deep/", type=tarfile.DIRTYPE),
        sample("empty", b""),
        *[member("x.jpg", JPEG), member("y.jpg", JPEG), member("x.cls", b"1"), member("y.cls", b"1")],
        sample("good", JPEG),
        member("twice.jpg", JPEG) + member("twice.jpg", JPEG) + member("twice.cls", b"1"),
    ]
    write_tar(tmp_path / "in" / "t.tar", members)
    before = files_below(tmp_path)
    out = tmp_path / "out"
    result = CliRunner().invoke(build_app(), ["prepare", str(tmp_path / "in"), str(out)])
    assert result.exit_code == 0, result.output
    assert files_below(tmp_path, but=out) == before
    assert not Path("/dad-outside").exists()
    assert not [path for path in out.rglob("*") if path.is_symlink() or not (path.is_file() or path.is_dir())]
    rows = read_index(LocalFolder(out), "t-00000").to_pylist()
    assert {row["source_key"].removeprefix("t/"): row["reason"] for row in rows} == {
        "good": "",
        "/dad-outside/absolute": "unsafe member name",
        "../../up": "unsafe member name",
        "a/../../../in": "unsafe member name",
        **dict.fromkeys(["soft", "hard", "disk", "null", "pipe"], "member is a link or a device"),
        "empty": "image is empty",
        "x": "label member missing",
        "y": "label member missing",
        "x#2": "key stands twice in the tar",
        "y#2": "key stands twice in the tar",
        "good#2": "key stands twice in the tar",
        "twice": "several image members",
    }


def test_a_member_of_100_gb_is_a_row_and_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with path.open("wb") as stream:
        stream.write(member("large.jpg", size=LARGE_BYTES))
        write_hole(stream, LARGE_BYTES)
        stream.write(member("large.cls", b"1") + member("note.jpg", JPEG) + member("note.cls", size=LARGE_BYTES))
        write_hole(stream, LARGE_BYTES)
        stream.write(sample("good", JPEG) + bytes(1024))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = open_tar(path)
    assert {each.source_key: each.problem for each in read_all(source)} == {
        "t/large": "image is larger than 256 MiB",
        "t/note": "label is not an integer",
        "t/good": "",
    }
    for key in ("t/large", "t/note"):
        assert not source.has(key)
        with pytest.raises(KeyError):
            source.fetch(key)
    assert source.fetch("t/good") == JPEG
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 2**16


@pytest.mark.parametrize("size", [2**20, 2**33, 2**62, 2**80])
def test_a_member_that_claims_more_than_the_file_has_is_told(tmp_path: Path, size: int) -> None:
    path = write_tar(tmp_path / "t.tar", [sample("good", JPEG), member("a.jpg", size=size)])
    with pytest.raises(UserError, match=r"t\.tar: cut off inside the member at byte 2,048; expected a whole"):
        list(open_tar(path).plan(1))


@pytest.mark.parametrize("num_map_blocks", [0, 1, 3])
def test_a_sparse_member_is_a_row(num_map_blocks: int) -> None:
    """In GNU's old form the map of the holes goes on in blocks behind the header, which its size leaves out."""
    info = tarfile.TarInfo("a.jpg")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 700
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[482] = num_map_blocks > 0
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    blocks = [bytes(504) + bytes([number + 1 < num_map_blocks]) + bytes(7) for number in range(num_map_blocks)]
    content = bytes(header) + b"".join(blocks) + bytes(1024) + member("a.cls", b"1") + sample("b", JPEG) + bytes(1024)
    members = list(walk_tar(io.BytesIO(content), len(content)))
    assert [(each.name, each.problem) for each in members] == [
        ("a.jpg", "member is sparse"),
        *((name, "") for name in ("a.cls", "b.jpg", "b.cls")),
    ]
    assert content[members[2].offset :][: members[2].size] == JPEG
    if num_map_blocks:
        with pytest.raises(DamagedTarError, match="cut off"):
            list(walk_tar(io.BytesIO(content[:700]), 10**6))


def pax(records: bytes) -> bytes:
    return member("pax", records, type=tarfile.XHDTYPE) + member("a.jpg", JPEG) + bytes(1024)


@pytest.mark.timeout(30)
def test_extension_headers_take_no_time() -> None:
    for records in (b"6 a=b\n" * 170_000, b"9" * 10**6, b"1000010 size=" + b"9" * 999_996 + b"\n"):
        content = pax(records)
        try:
            assert [each.name for each in walk_tar(io.BytesIO(content), len(content))] == ["a.jpg"]
        except DamagedTarError as error:
            assert "cut off" in str(error)  # noqa: PT017 - the size of a million digits
    with pytest.raises(DamagedTarError, match="an extension header of 2,000,000 bytes"):
        list(walk_tar(io.BytesIO(pax(bytes(2_000_000))), 10**7))


@pytest.mark.timeout(30)
def test_a_key_given_thirty_thousand_times_takes_no_time() -> None:
    members = (TarMember(f"{'ab'[number % 2]}.jpg", 0, 1, "") for number in range(60_000))
    keys = [each.key for each in group_samples(members)]
    assert (keys[:4], keys[-1], len(set(keys))) == (["a", "b", "a#2", "b#2"], "b#30000", 60_000)


def test_pickles_in_a_tar_are_not_opened(tmp_path: Path) -> None:
    """webdataset's own decoder would open these members."""
    trace = tmp_path / "it-ran"
    code = pickle.dumps(Payload(trace))
    names = [f"a.{suffix}" for suffix in ("pyd", "pkl", "pickle", "pth", "pt", "npy", "npz", "json")]
    path = write_tar(tmp_path / "t.tar", [member("a.jpg", JPEG), *(member(name, code) for name in names)])
    assert {each.problem for each in read_all(open_tar(path))} == {"label is not an integer"}
    assert not trace.exists()
    pickle.loads(code)
    assert trace.exists()


def test_a_name_that_is_no_unicode_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    write_tar(path, [sample("a", JPEG)])
    path.rename(tmp_path / b"\xff.tar".decode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"udcff\.tar': its name is not UTF-8"):
        open_tar(tmp_path)
