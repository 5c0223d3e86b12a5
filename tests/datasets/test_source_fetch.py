"""Random access to the images of every source: `fetch` gives what `read` gives, `has` says where it does."""

from __future__ import annotations

import io
import pickle
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from unittest import mock

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from child_process import in_child
from hypothesis import given
from hypothesis import strategies as st

from dad_datasets import key_table
from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.key_table import KeyTable, Place, Places, digests_of
from dad_datasets.preparing import prepare_shards
from dad_datasets.seeding import generator_for
from dad_datasets.sources import CleanSample, CleanSource, SourceSettings, open_source, parquet_memory

LAYOUTS = ("folder", "tars", "parquet", "bare_parquet", "prepared")
JPEG = b"\xff\xd8\xff"
IMAGES = {f"class{number % 3}/{number} ü.jpg": JPEG + bytes([number]) * (50 * number) for number in range(23)}


def tar_of(images: list[bytes]) -> bytes:
    """Samples 0000, 0001, ... under a folder, with long names, a label after the image; the last has no image."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, image in enumerate([*images, b""]):
            for extension, content in (("jpg", image), ("cls", b"1")):
                if extension == "cls" or image:
                    member = tarfile.TarInfo(f"{'n' * 90}/of ü/{number:04d}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def parquet_of(images: list[bytes], *, bare: bool) -> bytes:
    """A row without bytes and one of no bytes come last."""
    stream = io.BytesIO()
    cells = [*images, None, b""]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": cell, "path": "x"} for cell in cells]
    column = pa.array(cells, pa.binary()) if bare else pa.array(rows, struct)
    pq.write_table(pa.table({"label": [1] * len(cells), "image": column}), stream, row_group_size=4)
    return stream.getvalue()


def layout_files(layout: str) -> dict[str, bytes]:
    images = list(IMAGES.values())
    if layout in ("folder", "prepared"):
        others = {"class0/.hidden.jpg": JPEG, "class0/notes.txt": b"x", "top.jpg": JPEG}
        return {**IMAGES, "class0/empty.jpg": b"", **others}
    if layout == "tars":
        return {"a.tar": tar_of(images[:14]), "c.tar": tar_of(images[14:])}
    bare = layout == "bare_parquet"
    return {"a.parquet": parquet_of(images[:14], bare=bare), "c.parquet": parquet_of(images[14:], bare=bare)}


def make_source(layout: str, url: str) -> str:
    """The files of a source written below `url`; where it is then to be opened."""
    filesystem, root = fsspec.core.url_to_fs(url)
    for name, content in layout_files(layout).items():
        filesystem.makedirs(f"{root}/photos/{name}".rpartition("/")[0], exist_ok=True)
        filesystem.pipe_file(f"{root}/photos/{name}", content)
    if layout != "prepared":
        return f"{url}/photos"
    prepare_shards(SourceSettings(path=f"{url}/photos"), open_folder(f"{url}/clean"), samples_per_shard=5)
    return f"{url}/clean"


def open_at(path: Path | str, **options: Path | int) -> CleanSource:
    return open_source(SourceSettings(path=str(path)), **options)  # type: ignore[arg-type]


def read_all(source: CleanSource) -> list[CleanSample]:
    return [sample for unit in source.plan(7) for sample in source.read(unit)]


def wrong_fetches(source: CleanSource, samples: list[CleanSample], seed: int = 0) -> list[str]:
    """Keys whose fetch, in random order, does not give what `read` gave (an unusable sample must raise KeyError)."""
    wrong = []
    for index in generator_for("fetch", seed).permutation(2 * len(samples)):
        sample = samples[index % len(samples)]
        try:
            image = source.fetch(sample.source_key)
        except KeyError:
            image = b""
        if image != sample.image or bool(image) == bool(sample.problem):
            wrong.append(sample.source_key)
    return wrong


def fetched(source: CleanSource, keys: list[str]) -> set[str]:
    """The keys under which there is a usable image."""
    found = set()
    for key in keys:
        with suppress(KeyError):
            source.fetch(key)
            found.add(key)
    return found


def had(source: CleanSource, keys: list[str]) -> set[str]:
    return {key for key in keys if source.has(key)}


@pytest.fixture(scope="module", params=LAYOUTS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_source(request.param, str(tmp_path_factory.mktemp("source")))


def test_fetch_gives_what_read_gives(place: str) -> None:
    source = open_at(place)
    samples = read_all(source)
    usable = [sample for sample in samples if not sample.problem]
    assert len(usable) == 23 < len(samples)
    assert sorted(source.fetch(sample.source_key) for sample in usable) == sorted(IMAGES.values())
    assert wrong_fetches(source, samples) == []


def test_fetch_after_pickling_and_in_children(place: str) -> None:
    source = open_at(place)
    samples = read_all(source)
    fresh = len(pickle.dumps(source))
    jobs = [partial(wrong_fetches, source, samples, seed) for seed in range(2)]
    assert in_child(*jobs) == [[], []]
    source.preload()
    assert wrong_fetches(source, samples) == []
    assert in_child(*jobs) == [[], []]
    assert len(pickle.dumps(source)) <= fresh  # no table and no image travels
    assert wrong_fetches(pickle.loads(pickle.dumps(source)), samples) == []


def test_has_says_where_fetch_finds_an_image(place: str) -> None:
    source = open_at(place)
    keys = [sample.source_key for sample in read_all(source)]
    rows_alone = {"a/000014", "a/000015", "c/000009", "c/000010"}  # without an image
    unseen = rows_alone if Path(place, "a.parquet").exists() else set()
    usable = fetched(open_at(place), keys)
    assert len(usable) == 23 < len(keys)
    assert had(source, keys) == usable | unseen
    again = len(pickle.dumps(source))
    source.preload()
    assert had(source, keys) == usable | unseen
    assert in_child(partial(had, source, keys), partial(had, open_at(place), keys)) == [usable | unseen] * 2
    assert len(pickle.dumps(source)) <= again
    assert had(pickle.loads(pickle.dumps(source)), keys) == usable | unseen


@pytest.mark.parametrize("layout", LAYOUTS)
def test_has_fetches_nothing_from_urls(layout: str, tmp_path: Path) -> None:
    place = make_source(layout, "memory://fetch")
    try:
        source = open_at(place, cache=tmp_path / "used")
        samples = read_all(source)
        keys = [sample.source_key for sample in samples]
        usable, unusable = fetched(source, keys), {sample.source_key for sample in samples if sample.problem}
        asked = open_at(place, cache=tmp_path / "unused")
        assert had(asked, keys) == usable | (set() if layout == "prepared" else unusable)
        assert had(source, keys) == had(asked, keys)  # whatever was fetched before
        assert had(asked, ["nosuch/0.jpg", "class0/nosuch.jpg", "class0/.hidden.jpg", "b/000000", ""]) == set()
        assert asked.has("a/nosuch") == (layout == "tars")
        assert not (tmp_path / "unused").exists()
    finally:
        fsspec.filesystem("memory").rm("/fetch", recursive=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_urls_give_the_same(layout: str, tmp_path: Path) -> None:
    place = make_source(layout, "memory://fetch")
    try:
        source = open_at(place, cache=tmp_path, cache_bytes=2**20)
        samples = read_all(source)
        assert wrong_fetches(source, samples) == []
        assert in_child(partial(wrong_fetches, source, samples)) == [[]]
        assert any(tmp_path.iterdir()) == (layout in ("tars", "prepared"))
    finally:
        fsspec.filesystem("memory").rm("/fetch", recursive=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keys_that_are_not_there(layout: str, tmp_path: Path) -> None:
    source = open_at(make_source(layout, str(tmp_path)))
    (tmp_path / "secret.jpg").write_bytes(JPEG)
    first = read_all(source)[0].source_key
    keys = ["", "/", "nosuch", "nosuch/0.jpg", first + "x", first.upper(), f"/{first}", f"./{first}", f"{first}/"]
    keys += ["../../../../../../etc/passwd", "../secret.jpg", "class0/../../secret.jpg", f"{tmp_path}/secret.jpg"]
    keys += ["class0/.hidden.jpg", "class0/notes.txt", "top.jpg", "class0//0 ü.jpg", "class0/\0.jpg"]
    keys += [f"class0/{'x' * 300}.jpg", "class0/0 ü.jpg/x.jpg", "\ud800/x.jpg"]
    keys += ["a/000016", "a/0000001", "a/1", "a/-00001", "a/٠٠٠٠٠٠", "b/000000", f"a/{'9' * 5000}", "a/"]
    for key in keys:
        with pytest.raises(KeyError):
            source.fetch(key)
    assert had(source, keys) == set()


def test_a_folder_named_like_an_image(tmp_path: Path) -> None:
    source = open_at(make_source("folder", str(tmp_path)))
    (tmp_path / "photos" / "class0" / "new.jpg").mkdir()
    with pytest.raises(KeyError):
        source.fetch("class0/new.jpg")
    assert not source.has("class0/new.jpg")


def test_an_image_that_cannot_be_read_is_not_merely_missing(tmp_path: Path) -> None:
    source = open_at(make_source("folder", str(tmp_path)))
    (tmp_path / "photos" / "class0" / "loop.jpg").symlink_to("loop.jpg")
    for look in (source.fetch, source.has):
        with pytest.raises(UserError, match=r"class0/loop\.jpg: cannot be read"):
            look("class0/loop.jpg")


@pytest.mark.parametrize("layout", ["parquet", "prepared"])
def test_children_share_what_was_preloaded(layout: str, tmp_path: Path) -> None:
    source = open_at(make_source(layout, str(tmp_path)))
    samples = read_all(source)
    source.preload()
    shutil.rmtree(tmp_path / ("photos" if layout == "parquet" else "clean/index"))
    assert in_child(partial(wrong_fetches, source, samples)) == [[]]


def test_parquet_over_the_bound_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_source("parquet", str(tmp_path))
    images = sum(len(image) for image in IMAGES.values())
    monkeypatch.setattr(parquet_memory, "LARGEST_COLUMNS_BYTES", images)  # the column has lengths besides
    with mock.patch.object(pq.ParquetFile, "read") as read:
        for attempt in (open_at(place).preload, partial(open_at(place).fetch, "a/000000")):
            with pytest.raises(UserError, match=r"in 2 file\(s\) are more than .* allowed: run `dad prepare`"):
                attempt()
        assert open_at(place).has("a/000000")
    read.assert_not_called()
    monkeypatch.setattr(parquet_memory, "LARGEST_COLUMNS_BYTES", images + 10_000)  # not of other columns
    open_at(place).preload()


def test_a_tar_that_was_cut_off_is_named(tmp_path: Path) -> None:
    place = make_source("tars", str(tmp_path))
    tar = tmp_path / "photos" / "a.tar"
    source, planned = open_at(place), open_at(place)
    key = read_all(source)[13].source_key
    planned.preload()
    whole = tar.read_bytes()
    tar.unlink()
    for late in (source, planned):
        with pytest.raises(UserError, match=r"a\.tar: cannot be (opened|read): No such file"):
            late.fetch(key)
    tar.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.tar: ends before the image of .*0013: it was cut off"):
        planned.fetch(key)
    with pytest.raises(UserError, match=r"a\.tar: cut off .*expected a whole, uncompressed tar"):
        source.fetch(key)


def test_a_remote_tar_that_is_gone_is_named(tmp_path: Path) -> None:
    source = open_at(make_source("tars", "memory://fetch"), cache=tmp_path)
    fsspec.filesystem("memory").rm("/fetch", recursive=True)
    with pytest.raises(UserError, match=r"a\.tar: is no longer there"):
        source.fetch("a/x")


def test_a_prepared_shard_that_is_gone_is_named(tmp_path: Path) -> None:
    source = open_at(make_source("prepared", str(tmp_path)))
    key = next(sample.source_key for sample in read_all(source) if not sample.problem)
    shutil.rmtree(tmp_path / "clean" / "shards")
    with pytest.raises(UserError, match="the shard is missing"):
        source.fetch(key)


def table_of(files: list[list[str]]) -> KeyTable:
    """Each key's place says where it is in the lists."""
    return KeyTable(
        Places(
            file=number,
            digests=digests_of(keys),
            offsets=np.arange(len(keys), dtype=np.int64) + 2**40,
            lengths=np.full(len(keys), number + 7, np.int64),
        )
        for number, keys in enumerate(files)
    )


KEYS = st.lists(st.text(), unique=True, max_size=40)


@given(keys=KEYS, cuts=st.lists(st.integers(0, 40), max_size=3), absent=st.text())
def test_the_table_finds_every_key(keys: list[str], cuts: list[int], absent: str) -> None:
    bounds = [0, *sorted(min(cut, len(keys)) for cut in cuts), len(keys)]
    files = [keys[start:stop] for start, stop in pairwise(bounds)]
    table = table_of(files)
    assert len(table) == len(keys)
    for number, names in enumerate(files):
        for offset, name in enumerate(names):
            assert table.find(name) == Place(number, offset + 2**40, number + 7)
    assert (absent in table) == (absent in keys)
    if absent not in keys:
        with pytest.raises(KeyError):
            table.find(absent)


@pytest.fixture
def alike() -> Iterator[None]:
    """Digests whose searched half takes two values only."""
    real = digests_of

    def digests(keys: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
        true = real(keys).copy()
        true[:, 0] %= 2
        return true

    with mock.patch.object(key_table, "digests_of", digests), mock.patch(f"{__name__}.digests_of", digests):
        yield


@pytest.mark.usefixtures("alike")
def test_the_table_tells_alike_keys_apart() -> None:
    keys = [str(number) for number in range(50)]
    table = table_of([keys])
    assert [table.find(key).offset - 2**40 for key in keys] == list(range(50))
    with pytest.raises(KeyError):
        table.find("50")
