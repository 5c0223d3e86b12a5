"""WebDataset tars: those of webdataset's own writer, and hostile ones."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from dad_datasets.errors import UserError
from dad_datasets.sources import CleanSample, CleanSource, SourceSettings, open_source
from dad_datasets.sources.tar_listing import DamagedTarError, walk_tar

JPEG = b"\xff\xd8\xff"


def image_of(number: int) -> bytes:
    """As long as no other below 1000."""
    return JPEG + b"x" * number


def write_shard(path: Path, numbers: range, *, labels: str = "cls") -> None:
    """Samples as timm's ImageNet tars have them, label = 3 * number."""
    with webdataset.TarWriter(str(path)) as writer:
        for number in numbers:
            label = (
                {"cls": str(3 * number)} if labels == "cls" else {"json": json.dumps({"label": 3 * number}).encode()}
            )
            writer.write({"__key__": f"n04487394_{number}", "jpg": image_of(number), **label})


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_tar(path: Path, *members: tuple[str, bytes], format: int = tarfile.USTAR_FORMAT) -> None:
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            add(tar, name, content)


def open_tars(path: Path | str) -> CleanSource:
    return open_source(SourceSettings(path=str(path)))


def read_all(source: CleanSource, samples_per_shard: int = 4) -> list[CleanSample]:
    return [sample for unit in source.plan(samples_per_shard) for sample in source.read(unit)]


def problems(path: Path) -> dict[str, str]:
    return {sample.source_key: sample.problem for sample in read_all(open_tars(path))}


@pytest.mark.parametrize("labels", ["cls", "json"])
def test_reads_what_webdataset_writes(tmp_path: Path, labels: str) -> None:
    write_shard(tmp_path / "train-0000.tar", range(1, 8), labels=labels)
    write_shard(tmp_path / "train-0001.tar", range(8, 10), labels=labels)
    source = open_tars(tmp_path / "train-{0000..0001}.tar")
    samples = read_all(source)
    assert [sample.label for sample in samples] == [3 * number for number in range(1, 10)]
    assert [sample.image for sample in samples] == [image_of(number) for number in range(1, 10)]
    assert [sample.source_key for sample in samples[6:8]] == [
        "train-0000/n04487394_7",
        "train-0001/n04487394_8",
    ]
    assert source.label_range() == (3, 27)
    assert [unit.name for unit in source.plan(4)] == ["train-0000-00000", "train-0000-00001", "train-0001-00000"]
    assert {unit.source_shard for unit in source.plan(4)} == {"train-0000.tar", "train-0001.tar"}


def test_same_samples_as_webdataset(tmp_path: Path) -> None:
    """Folders in keys, names with many dots, upper case, meta members, members without a key."""
    names = [
        "__info__",
        "__meta__/x.jpg",
        "__meta__/x.cls",
        "README",
        "a/b.c/d.JPG",
        "a/b.c/d.cls",
        "e.jpg",
        "e.clean.webp",
        "e.cls",
        "./f.png",
        "./f.cls",
    ]
    write_tar(tmp_path / "t.tar", *((name, b"7") for name in names))
    dataset = webdataset.WebDataset(str(tmp_path / "t.tar"), shardshuffle=False)
    theirs = [f"t/{sample['__key__'].removeprefix('./')}" for sample in dataset]
    samples = read_all(open_tars(tmp_path / "t.tar"))
    assert [sample.source_key for sample in samples] == theirs == ["t/a/b.c/d", "t/e", "t/f"]
    assert {(sample.label, sample.problem) for sample in samples} == {(7, "")}


def test_bad_samples_have_a_problem(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "t.tar",
        *[("good.jpg", JPEG), ("good.cls", b" 5\n"), ("good.json", b"not json")],
        ("no_label.jpg", JPEG),
        ("no_image.cls", b"1"),
        *[("word.jpg", JPEG), ("word.cls", b"cat")],
        *[("negative.jpg", JPEG), ("negative.cls", b"-1")],
        *[("huge.jpg", JPEG), ("huge.cls", b"3000000000")],
        *[("list.jpg", JPEG), ("list.json", b"[1]")],
        *[("flag.jpg", JPEG), ("flag.json", b'{"label": true}')],
        *[("both.json", b'{"label": 4, "cls": 6}'), ("both.jpg", JPEG)],
        *[("two.jpg", JPEG), ("two.png", JPEG), ("two.cls", b"1")],
        *[("twice.cls", b"1"), ("twice.jpg", JPEG), ("twice.cls", b"2")],
        *[("empty.jpg", b""), ("empty.cls", b"1")],
        *[("good.jpg", JPEG), ("good.cls", b"5")],
    )
    samples = {sample.source_key: sample for sample in read_all(open_tars(tmp_path / "t.tar"))}
    assert {key: sample.problem for key, sample in samples.items()} == {
        "t/good": "",
        "t/no_label": "label member missing",
        "t/no_image": "image member missing",
        "t/word": "label is not an integer",
        "t/negative": "label is negative",
        "t/huge": "label does not fit 31 bits",
        "t/list": "label is not an integer",
        "t/flag": "label is not an integer",
        "t/both": "",
        "t/two": "several image members",
        "t/twice": "member stands twice",
        "t/empty": "image is empty",
        "t/good#2": "key stands twice in the tar",
    }
    assert (samples["t/good"].label, samples["t/both"].label) == (5, 6)
    assert open_tars(tmp_path / "t.tar").label_range() == (-1, 3_000_000_000)


@pytest.mark.parametrize("name", ["/etc/passwd.jpg", "../up.jpg", "a/../../b.jpg"])
def test_unsafe_names_are_not_samples(tmp_path: Path, name: str) -> None:
    write_tar(tmp_path / "t.tar", (name, JPEG), (name.replace("jpg", "cls"), b"1"))
    assert list(problems(tmp_path / "t.tar").values()) == ["unsafe member name"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_not_images(tmp_path: Path, kind: bytes) -> None:
    link = tarfile.TarInfo("a.jpg")
    link.type, link.linkname, link.size = kind, "/etc/passwd", 0
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.addfile(link)
        add(tar, "a.cls", b"1")
    assert problems(tmp_path / "t.tar") == {"t/a": "member is a link or a device"}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    members=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=30)
            .filter(lambda name: name not in (".", ".."))
            .map(lambda name: f"{'folder/' * (3 * len(name))}{name}"),
            st.binary(max_size=1100),
        ),
        max_size=4,
    )
)
@settings(max_examples=30, deadline=None)
def test_walks_every_dialect_like_tarfile(format: int, members: list[tuple[str, bytes]]) -> None:
    if format == tarfile.USTAR_FORMAT:  # short names only
        members = [(f"folder/{name[-20:].rpartition('/')[2].encode().hex()}", content) for name, content in members]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as tar:
        for name, content in members:
            add(tar, name, content)
    walked = list(walk_tar(stream, len(stream.getvalue())))
    assert [member.name for member in walked] == [name for name, _ in members]
    raw = stream.getvalue()
    assert [raw[m.offset : m.offset + m.size] for m in walked] == [content for _, content in members]


@given(cut=st.integers(0, 3 * 1024 + 511))
@settings(max_examples=60, deadline=None)
def test_a_tar_cut_anywhere_is_refused(cut: int) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("a.jpg", "a.cls", "b.jpg"):
            add(tar, name, b"x" * 512)
    walked = walk_tar(io.BytesIO(stream.getvalue()[:cut]), cut)
    with pytest.raises(DamagedTarError, match="cut off"):  # noqa: PT012  # what came before the cut must be whole
        for member in walked:
            assert member.offset + member.size <= cut


@given(position=st.integers(0, 511), value=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_a_damaged_header_never_passes_unseen(position: int, value: int) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        add(tar, "a.jpg", b"x" * 512)
    raw = bytearray(stream.getvalue())
    changed = raw[position] != value
    raw[position] = value
    try:
        members = [(member.name, member.offset, member.size) for member in walk_tar(io.BytesIO(bytes(raw)), len(raw))]
    except DamagedTarError:
        assert changed
    else:
        assert members == [("a.jpg", 512, 512)]


def test_truncated_and_foreign_files_are_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", range(1, 4))
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:3000])
    with pytest.raises(UserError, match=r"b\.tar: cut off"):
        list(open_tars(tmp_path).plan(2))
    (tmp_path / "a.tar").write_bytes(b"\x1f\x8b" + whole[2:])
    with pytest.raises(UserError, match=r"a\.tar: no tar header at byte 0; expected a whole, uncompressed tar"):
        open_tars(tmp_path / "a.tar")


def test_sparse_members_are_not_images(tmp_path: Path) -> None:
    sparse = tarfile.TarInfo("a.jpg")
    sparse.type = tarfile.GNUTYPE_SPARSE
    with tarfile.open(tmp_path / "t.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(sparse)
        add(tar, "a.cls", b"1")
    assert problems(tmp_path / "t.tar") == {"t/a": "member is sparse"}


def test_a_tar_that_changed_is_noticed(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", range(1, 9))
    source = open_tars(tmp_path / "a.tar")
    last = list(source.plan(3))[-1]
    sent = pickle.dumps(source)
    assert [sample.label for sample in pickle.loads(sent).read(last)] == [21, 24]
    write_shard(tmp_path / "a.tar", range(1, 3))
    with pytest.raises(UserError, match="changed since the run was planned"):
        list(pickle.loads(sent).read(last))


def test_tars_without_samples_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", ("README", b"nothing"))
    with pytest.raises(UserError, match="hold no sample"):
        open_tars(tmp_path / "a.tar")
