"""Tars: the same bytes each time, read by every reader, found again by their spans."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from dad_datasets.tar_writer import Span, TarWriter

NAMES = st.text("abcXYZ019%-_", min_size=1, max_size=96).map(lambda stem: f"{stem}.cls")
MEMBERS = st.dictionaries(NAMES, st.binary(max_size=1200), max_size=6)


def written(members: dict[str, bytes]) -> tuple[bytes, dict[str, Span]]:
    stream = io.BytesIO()
    tar = TarWriter(stream)
    spans = {name: tar.add(name, content) for name, content in members.items()}
    digest = tar.finish()
    assert digest == hashlib.sha256(stream.getvalue()).hexdigest()
    assert tar.size_bytes == len(stream.getvalue())
    return stream.getvalue(), spans


@given(MEMBERS)
def test_python_reads_back_what_was_written(members: dict[str, bytes]) -> None:
    content, spans = written(members)
    assert content == written(members)[0]
    assert {name: content[span.offset :][: span.length] for name, span in spans.items()} == members
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        found = tar.getmembers()
        assert [member.name for member in found] == list(members)
        for member in found:
            file = tar.extractfile(member)
            assert file is not None
            assert file.read() == members[member.name]
            assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)


@given(MEMBERS)
def test_bytes_equal_pythons_own_writer(members: dict[str, bytes]) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert written(members)[0] == stream.getvalue()


def test_webdataset_groups_the_members(tmp_path: Path) -> None:
    members = {f"k{n}-v0.{end}": b"%d" % n for n in range(3) for end in ("webp", "cls", "teacher.npy")}
    path = tmp_path / "a.tar"
    path.write_bytes(written(members)[0])
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["k0-v0", "k1-v0", "k2-v0"]
    assert [(sample["webp"], sample["teacher.npy"]) for sample in samples] == [(b"%d" % n,) * 2 for n in range(3)]


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program")
def test_the_tar_program_lists_the_members(tmp_path: Path) -> None:
    names = ["k" * 96 + ".cls", "b.json"]
    path = tmp_path / "a.tar"
    path.write_bytes(written(dict.fromkeys(names, b"content"))[0])
    listed = subprocess.run(["tar", "tf", str(path)], capture_output=True, text=True, check=True)
    assert (listed.stdout.split(), listed.stderr) == (names, "")


def test_names_beyond_the_header_are_refused() -> None:
    for name in ("k" * 101, "ü.cls"):
        with pytest.raises(ValueError):
            written({name: b""})


def test_contents_beyond_the_header_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dad_datasets.tar_writer.LARGEST_MEMBER_BYTES", 3)
    written({"a.cls": b"123"})
    with pytest.raises(ValueError, match=r"no tar header holds a member 'a\.cls' of 4 bytes"):
        written({"a.cls": b"1234"})


def test_a_tar_left_half_way_has_no_end_mark() -> None:
    stream = io.BytesIO()
    TarWriter(stream).add("a.cls", b"1")
    assert len(stream.getvalue()) == 2 * tarfile.BLOCKSIZE
