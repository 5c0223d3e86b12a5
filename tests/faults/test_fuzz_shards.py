"""Any bytes as a tar: samples with reasons or one sentence, and never a file beside the output."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_files import damaged, files_below, member, sample, write_tar
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.preparing import prepare_shards
from dad_datasets.record import npy_bytes
from dad_datasets.shard_files import ShardFiles
from dad_datasets.shard_reader import ShardReader
from dad_datasets.sources import SourceSettings, open_source

PNG = io.BytesIO()
Image.new("RGB", (4, 4), "red").save(PNG, "PNG")
WHOLE = b"".join([sample("a", PNG.getvalue()), sample("b", b"x" * 600, b"2"), sample("c/d", PNG.getvalue(), b"0")])
CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8)
NAMES = st.one_of(
    st.sampled_from(["a.jpg", "a.cls", "b.png", "../a.jpg", "/a.cls", "a/../b.jpg", "c.json", ".", "..", "a.jpg/"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=24),
)
KINDS = st.sampled_from([b"0", b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"L", b"K", b"x", b"g", b"Z"])
CONTENTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"1", b"-1", b"{}", b'{"cls": 1}', PNG.getvalue(), b"11 size=99\n", b"14 path=../x\n", b"9" * 30]),
)
MEMBERS = st.lists(st.builds(lambda n, c, k: member(n, c, type=k), NAMES, CONTENTS, KINDS), max_size=8)


def check(folder: Path, content: bytes) -> None:
    """Prepare it, and read it at random."""
    (folder / "in").mkdir()
    (folder / "in" / "t.tar").write_bytes(content)
    source = SourceSettings(path=str(folder / "in"))
    before = files_below(folder)
    try:
        totals = prepare_shards(source, LocalFolder(folder / "out"), samples_per_shard=2)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
    else:
        opened = open_source(source)
        read = [each for unit in opened.plan(3) for each in opened.read(unit)]
        assert totals.images + sum(totals.failures.values()) == len(read)
        assert totals.images <= sum(not each.problem for each in read)
        for each in read:
            if not each.problem:
                assert opened.fetch(each.source_key) == each.image
    assert files_below(folder, but=folder / "out") == before


@given(changes=CHANGES, kept=st.floats(0, 1))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_damage(changes: list[tuple[float, int]], kept: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    check(tmp_path_factory.mktemp("tar"), damaged(WHOLE + bytes(1024), changes, kept))


@given(members=MEMBERS)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_any_members(members: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("tar")
    check(folder, write_tar(folder / "first.tar", members).read_bytes())


@given(content=st.binary(max_size=1500))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_any_bytes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    check(tmp_path_factory.mktemp("tar"), content)


PLACES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-10, 3000))
CELLS = st.fixed_dictionaries({"offset": PLACES, "length": PLACES})
STORED = npy_bytes(np.zeros((2, 5), np.float16)) + PNG.getvalue() + bytes(300)


@given(cells=CELLS, changes=CHANGES, exact=st.booleans())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_place_in_any_shard(
    cells: dict[str, int], changes: list[tuple[float, int]], exact: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = damaged(STORED, changes)
    if exact:  # where an array or an image really stands
        cells = {
            "offset": 0 if cells["offset"] % 2 else 148,
            "length": 148 if cells["offset"] % 2 else len(STORED) - 448,
        }
    row: dict[str, Any] = {"key": "k", "image_offset": cells["offset"], "image_length": cells["length"]}
    reader = ShardReader(io.BytesIO(content), "t.tar")
    for read in (reader.member, reader.canvas, reader.array):
        try:
            read(row, "image")
        except UserError as error:
            assert str(error).startswith("t.tar: ")  # noqa: PT017 - both outcomes are right


@given(cells=CELLS)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_place_in_a_mapped_shard(cells: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "mapped"
    if not folder.exists():
        write_tar(folder / "shards" / "u.tar", [STORED])
    content = (folder / "shards" / "u.tar").read_bytes()
    offset, length = cells["offset"], cells["length"]
    try:
        assert ShardFiles(folder).read("u", offset, length) == content[offset : offset + length]
        assert 0 <= offset <= offset + length <= max(len(content), offset)
    except UserError as error:
        assert "u.tar" in str(error)  # noqa: PT017 - both outcomes are right
