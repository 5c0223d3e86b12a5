"""Which source a path opens, what is refused, and what holds for every source."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dad_datasets.errors import UserError
from dad_datasets.keys import encode_key
from dad_datasets.sources import CleanSample, CleanSource, SourceSettings, open_source
from dad_datasets.sources.image_folder import ImageFolder
from dad_datasets.sources.parquet_images import ParquetImages
from dad_datasets.sources.webdataset_tars import WebDatasetTars

JPEG = b"\xff\xd8\xff"


def tar_of(*numbers: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for number in numbers:
            for extension, content in (("jpg", JPEG + b"%d" % number), ("cls", b"%d" % (number % 3))):
                member = tarfile.TarInfo(f"{number:04d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def parquet_of(*numbers: int) -> bytes:
    stream = io.BytesIO()
    images = [JPEG + b"%d" % number for number in numbers]
    pq.write_table(pa.table({"image": images, "label": [number % 3 for number in numbers]}), stream, row_group_size=5)
    return stream.getvalue()


def layout_files(layout: str) -> dict[str, bytes]:
    """Small sources of 23 samples each, by layout."""
    if layout == "folder":
        return {f"photos/class{number % 3}/{number}.jpg": JPEG + b"%d" % number for number in range(23)}
    if layout == "tars":
        return {"a.tar": tar_of(*range(14)), "b/empty.tar": tar_of(), "c.tar": tar_of(*range(14, 23))}
    return {"a.parquet": parquet_of(*range(14)), "b.parquet": parquet_of(), "c.parquet": parquet_of(*range(14, 23))}


def root_of(layout: str, base: str) -> str:
    return f"{base}/photos" if layout == "folder" else base


def put(base: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(content)


def read_all(source: CleanSource, samples_per_shard: int = 7) -> list[CleanSample]:
    return [sample for unit in source.plan(samples_per_shard) for sample in source.read(unit)]


def open_at(path: Path | str, **fields: str) -> CleanSource:
    return open_source(SourceSettings.model_validate({"path": str(path), **fields}))


@pytest.fixture(scope="module", params=["folder", "tars", "parquet"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CleanSource:
    base = tmp_path_factory.mktemp("source")
    put(base, layout_files(request.param))
    return open_at(root_of(request.param, str(base)))


def test_longest_key(source: CleanSource) -> None:
    lengths = {len(encode_key(sample.source_key)) for sample in read_all(source)}
    longest = source.longest_key()
    assert longest is not None
    assert len(encode_key(longest)) == max(lengths)


@given(samples_per_shard=st.integers(1, 30))
def test_units_cover_every_sample_once_in_order(source: CleanSource, samples_per_shard: int) -> None:
    units = list(source.plan(samples_per_shard))
    assert all(1 <= unit.count <= samples_per_shard for unit in units)
    assert len({unit.name for unit in units}) == len(units)
    parts = [list(source.read(unit)) for unit in units]
    assert [len(part) for part in parts] == [unit.count for unit in units]
    assert [sample for part in parts for sample in part] == read_all(source, 1000)
    # Backwards, as workers may take them.
    assert [list(source.read(unit)) for unit in reversed(units)] == parts[::-1]


def test_every_sample_is_there(source: CleanSource) -> None:
    samples = read_all(source)
    assert sorted(int(sample.image.removeprefix(JPEG)) for sample in samples) == list(range(23))
    assert all(sample.label == int(sample.image.removeprefix(JPEG)) % 3 for sample in samples)
    assert len({sample.source_key for sample in samples}) == 23
    assert source.label_range() == (0, 2)


def test_sources_travel_to_workers(source: CleanSource) -> None:
    sent: CleanSource = pickle.loads(pickle.dumps(source))
    assert read_all(sent) == read_all(source)
    assert sent.identity() == source.identity()
    assert sent.class_names == source.class_names


def test_units_need_at_least_one_sample(source: CleanSource) -> None:
    with pytest.raises(UserError, match="samples_per_shard = 0"):
        list(source.plan(0))


@pytest.fixture
def memory() -> Iterator[str]:
    filesystem = fsspec.filesystem("memory")
    yield "memory://sources"
    filesystem.rm("/sources", recursive=True)


@pytest.mark.parametrize("layout", ["folder", "tars", "parquet"])
def test_urls_give_the_same_as_local_files(layout: str, memory: str, tmp_path: Path) -> None:
    put(tmp_path, layout_files(layout))
    for name, content in layout_files(layout).items():
        with fsspec.open(f"{memory}/{name}", "wb") as file:
            file.write(content)
    local, remote = open_at(root_of(layout, str(tmp_path))), open_at(root_of(layout, memory))
    assert type(remote) is type(local)
    assert read_all(pickle.loads(pickle.dumps(remote))) == read_all(local)
    assert list(remote.plan(4)) == list(local.plan(4))
    assert remote.identity() == local.identity()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{a,c}.tar", ["a.tar", "c.tar"]),
        ("{c,a}.tar", ["c.tar", "a.tar"]),
        ("?.tar", ["a.tar", "c.tar"]),
        ("b/*.tar", ["empty.tar"]),
        ("{a,b/e*}.tar", ["a.tar", "b/empty.tar"]),
        ("a.tar", ["a.tar"]),
        ("odd[1]{x}.tar", ["odd[1]{x}.tar"]),
        ("odd[1]*.tar", ["odd[1]{x}.tar"]),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, names: list[str]) -> None:
    put(tmp_path, {**layout_files("tars"), "odd[1]{x}.tar": tar_of(7), "b/empty.tar": tar_of(1)})
    units = list(open_at(f"{tmp_path}/{pattern}").plan(100))
    assert [unit.source_shard for unit in units] == names


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    expected = {"folder": ImageFolder, "tars": WebDatasetTars, "parquet": ParquetImages}
    for layout, kind in expected.items():
        put(tmp_path / layout, layout_files(layout))
        assert type(open_at(root_of(layout, str(tmp_path / layout)))) is kind


@pytest.mark.parametrize(
    ("files", "path", "message"),
    [
        ({}, "nowhere", "there is no such file or folder"),
        ({}, "nowhere/*.tar", "there is no such file or folder"),
        ({"a.tar": b""}, "{a,b}.tar", r"b\.tar: there is no such file"),
        ({"a.tar": b""}, "{a.tar", "braces are not balanced"),
        ({"notes.txt": b"x"}, "", "no layout that is known; looked for tars"),
        ({"notes.txt": b"x"}, "notes.txt", "no layout that is known"),
        ({"a.tar": b"x", "b.parquet": b"x"}, "", "more than one layout"),
        ({"a.tar": b"x", "class/b.jpg": b"x"}, "", "more than one layout"),
        ({"a.tar": b"x", "b.zip": b"x"}, "*", "more than one layout"),
        ({"x/a.tar": tar_of(1), "y/a.tar": tar_of(2)}, "", "x/a.tar and y/a.tar: both would make shards named a-"),
        ({"a.parquet": parquet_of(1)}, "{a,a}.parquet", "both would make shards named a-"),
        ({f"{'x' * 210}.tar": tar_of(1)}, "", "1 to 200 bytes"),
    ],
)
def test_what_is_refused(tmp_path: Path, files: dict[str, bytes], path: str, message: str) -> None:
    put(tmp_path, files)
    with pytest.raises(UserError, match=message):
        list(open_at(f"{tmp_path}/{path}".rstrip("/")).plan(10))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no layout that is known"):
        open_at(tmp_path)


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_a_named_kind_without_files_is_refused(tmp_path: Path, kind: str) -> None:
    put(tmp_path, {"notes.txt": b"x"})
    with pytest.raises(UserError, match=r"no \.(tar|parquet) file there"):
        open_at(tmp_path, kind=kind)


def test_a_named_kind_picks_from_a_mixed_folder(tmp_path: Path) -> None:
    put(tmp_path, {**layout_files("tars"), **layout_files("parquet")})
    assert type(open_at(tmp_path, kind="webdataset")) is WebDatasetTars
    assert type(open_at(tmp_path, kind="parquet")) is ParquetImages


def test_columns_belong_to_parquet(tmp_path: Path) -> None:
    put(tmp_path, layout_files("tars"))
    with pytest.raises(UserError, match="label_column is for Parquet, but this is webdataset"):
        open_at(tmp_path, label_column="label")


def test_unknown_protocols_are_refused() -> None:
    with pytest.raises(UserError, match="nosuch"):
        open_at("nosuch://bucket/a.tar")


def test_hidden_stems_get_a_visible_name(tmp_path: Path) -> None:
    put(tmp_path, {"..hidden {1}.tar": tar_of(1)})
    assert [unit.name for unit in open_at(tmp_path / "..hidden {1}.tar").plan(1)] == ["%2E.hidden%20%7B1%7D-00000"]
