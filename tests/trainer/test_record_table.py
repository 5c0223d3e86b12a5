"""The records of real datasets against their indexes read by pyarrow alone; and shards that are not whole refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.manifest import Manifest, read_manifest, write_manifest
from dad_trainer.reading.record_reading import RecordChoice, read_records
from dad_trainer.reading.record_table import ABSENT, RecordTable
from dad_trainer.reading.stored_form import stored_form

Row = dict[str, Any]
MakeSet = Callable[[str], Path]

EVERYTHING = RecordChoice()


def read(path: Path, choice: RecordChoice = EVERYTHING) -> RecordTable:
    folder = open_folder(path)
    manifest = read_manifest(folder)
    return read_records(folder, manifest, stored_form(manifest, origin="a set"), choice)


def rows_of(path: Path) -> list[Row]:
    """The rows of all indexes in the order of shards.parquet."""
    units = [row["unit"] for row in pq.read_table(path / "shards.parquet").to_pylist()]
    return [row | {"unit": u} for u in units for row in pq.read_table(path / f"index/{u}.parquet").to_pylist()]


def usable(path: Path) -> list[Row]:
    return [row for row in rows_of(path) if row["status"] != "failed"]


@pytest.fixture
def copied(make_set: MakeSet, tmp_path: Path) -> Path:
    """The full set, to be damaged."""
    return Path(shutil.copytree(make_set("full"), tmp_path / "set"))


@pytest.mark.parametrize("store", ["full", "top_k", "clean"])
def test_the_table_is_the_index(make_set: MakeSet, store: str) -> None:
    records, rows = read(make_set(store)), usable(make_set(store))
    assert len(records) == len(rows) == 72
    assert records.counts.rows == 75
    assert (records.counts.failed, records.counts.excluded, records.counts.kept) == (3, 0, 72)
    for place, row in enumerate(rows):
        assert records.key(place) == row["key"]
        assert records.source_key(place) == row["source_key"]
        assert records.units[records.shards[place]] == row["unit"]
        assert (records.views[place], records.labels[place]) == (row["view"], row["label"])
        assert records.box(place) == tuple(row[f"box_{side}"] for side in ("left", "top", "right", "bottom"))
        assert records.flips[place] == row["flip"]
        assert records.canvas_sha256[place].as_py() == row["canvas_sha256"]
        assert records.attacked[place] == (row["status"] == "ok")
        for member, span in records.spans.items():
            stored = (row[f"{member}_offset"], row[f"{member}_length"])
            assert tuple(span[place]) == (stored if row["status"] == "ok" else (ABSENT, ABSENT))
        for column, cells in records.inline.items():
            inline = records.inline_places[place]
            assert (inline == ABSENT) == (row[column] is None)
            if row[column] is not None:
                np.testing.assert_array_equal(cells[inline], np.array(row[column], cells.dtype))


def test_samples_are_dense_and_shared_by_the_views_of_an_image(make_set: MakeSet) -> None:
    records, rows = read(make_set("full")), usable(make_set("full"))
    assert sorted(set(records.samples.tolist())) == list(range(24))
    pairs = {(int(sample), row["source_key"]) for sample, row in zip(records.samples, rows, strict=True)}
    assert len(pairs) == 24


def test_of_codes_only_sets_the_clean_logits_are_kept(make_set: MakeSet) -> None:
    records, rows = read(make_set("codes"), RecordChoice(adversarial_images=False)), usable(make_set("codes"))
    assert not records.attacked.any()
    assert not records.spans
    expected = np.array([row["teacher"][:3] for row in rows], np.float16)
    np.testing.assert_array_equal(records.inline["teacher"][records.inline_places], expected)


def test_a_record_takes_100_bytes(make_set: MakeSet) -> None:
    for store, expected in (("full", 100), ("top_k", 132), ("clean", 116)):
        records = read(make_set(store))
        columns = [getattr(records, name) for name in ("shards", "samples", "views", "labels", "attacked", "boxes")]
        columns += [records.flips, records.inline_places, *records.spans.values()]
        assert sum(column.nbytes for column in columns) + 32 * len(records) == expected * len(records)


def test_where_keeps_the_rows_that_python_would_keep(make_set: MakeSet) -> None:
    rows = usable(make_set("full"))
    bound = float(np.median([row["codes_changed_by_attack"] for row in rows if row["status"] == "ok"]))
    where = f"teacher_adv_top1 == label and view == 0 or codes_changed_by_attack > {bound!r}"
    records = read(make_set("full"), RecordChoice(where=where))
    expected = [
        row["key"]
        for row in rows
        if (row["teacher_adv_top1"] == row["label"] and row["view"] == 0)
        or (row["codes_changed_by_attack"] is not None and row["codes_changed_by_attack"] > bound)
    ]
    assert 0 < len(expected) < 48
    assert [records.key(place) for place in range(len(records))] == expected
    assert records.counts.excluded == 72 - len(expected)
    assert sorted(set(records.samples.tolist())) == list(range(len(records.source_keys)))


def test_without_clean_images_there_are_no_clean_only_views(make_set: MakeSet) -> None:
    records = read(make_set("full"), RecordChoice(clean_images=False))
    assert len(records) == 48
    assert records.attacked.all()


def test_samples_can_be_left_out(make_set: MakeSet) -> None:
    records = read(make_set("full"))
    left = records.without_samples(np.array([0, 5, 23], np.int32))
    keys = [records.key(place) for place in range(len(records)) if records.samples[place] not in (0, 5, 23)]
    assert [left.key(place) for place in range(len(left))] == keys
    assert (left.counts.missing, left.counts.kept, len(left)) == (9, 63, 63)
    assert sorted(set(left.samples.tolist())) == list(range(21))
    for name in ("shards", "views", "labels", "attacked", "boxes", "flips", "inline_places"):
        assert len(getattr(left, name)) == 63
    assert left.canvas_sha256[0].as_py() == records.canvas_sha256[records_place(records, left.key(0))].as_py()


def records_place(records: RecordTable, key: str) -> int:
    return next(place for place in range(len(records)) if records.key(place) == key)


def test_nothing_left_is_refused_with_the_counts(make_set: MakeSet) -> None:
    with pytest.raises(UserError, match=r'none of its 75 views .* 3 failed .* 72 are left out by where "label > 5"'):
        read(make_set("full"), RecordChoice(where="label > 5"))


@pytest.mark.parametrize("where", ["lable == 1", "teacher == 1", "label"])
def test_a_wrong_where_is_refused_before_the_indexes_are_read(copied: Path, where: str) -> None:
    units = sorted(copied.glob("index/*.parquet"))
    units[-1].write_bytes(b"")
    with pytest.raises(UserError, match=r"^where: "):
        read(copied, RecordChoice(where=where))


def test_a_missing_shard_is_named(copied: Path) -> None:
    (copied / "shards/tiny-00001.tar").unlink()
    with pytest.raises(UserError, match=r"shards/tiny-00001\.tar: the shard is missing"):
        read(copied)


def test_a_truncated_shard_is_named(copied: Path) -> None:
    path = copied / "shards/tiny-00001.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(UserError, match=r"shards/tiny-00001\.tar: has [\d,]+ bytes, not [\d,]+: truncated or replaced"):
        read(copied)


def test_a_missing_index_is_named(copied: Path) -> None:
    (copied / "index/tiny-00002.parquet").unlink()
    with pytest.raises(UserError, match=r"index/tiny-00002\.parquet: the index is missing"):
        read(copied)


def test_an_index_of_another_run_is_refused(copied: Path) -> None:
    path = copied / "index/tiny-00001.parquet"
    table = pq.read_table(path)
    summary = (table.schema.metadata[b"dad"]).replace(b'"fingerprint": "', b'"fingerprint": "0')
    pq.write_table(table.replace_schema_metadata({b"dad": summary}), path)
    with pytest.raises(UserError, match="unit tiny-00001 is not of this run"):
        read(copied)


def test_a_manifest_of_another_run_is_refused(copied: Path) -> None:
    rewrite_manifest(copied, fingerprint="0" * 64)
    with pytest.raises(UserError, match=r"unit tiny-0000\d is not of this run"):
        read(copied)


def test_an_index_that_lost_rows_is_refused(copied: Path) -> None:
    path = copied / "index/tiny-00001.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(UserError, match="the index of tiny-00001 has 29 rows, not 30"):
        read(copied)


def test_another_number_of_shards_is_refused(copied: Path) -> None:
    rewrite_manifest(copied, shards=4)
    with pytest.raises(UserError, match=r"shards\.parquet lists 3 shards, manifest\.json says 4"):
        read(copied)


def test_of_an_unfinished_dataset_what_is_there_is_read(copied: Path) -> None:
    rewrite_manifest(copied, state="running", shards=0)
    (copied / "shards.parquet").unlink()
    (copied / "index/tiny-00001.parquet").unlink()
    assert set(read(copied).units) == {"tiny-00000", "tiny-00002"}
    for path in copied.glob("index/*"):
        path.unlink()
    with pytest.raises(UserError, match="not one shard is finished"):
        read(copied)


def rewrite_manifest(path: Path, **changes: object) -> Manifest:
    folder = open_folder(path)
    manifest = read_manifest(folder).model_copy(update=changes)
    write_manifest(folder, manifest)
    return manifest


@pytest.mark.parametrize("store", [{"image": "webp", "logits": {"top_k": 2}}, {"logits": "full"}, {"image": "webp"}])
def test_a_recipe_that_says_not_what_is_stored_is_refused(copied: Path, store: dict[str, object]) -> None:
    manifest = read_manifest(open_folder(copied))
    changed = manifest.model_copy(update={"recipe": manifest.recipe | {"store": store}})
    with pytest.raises(UserError, match=r"a set: store is .*; expected what `dad generate` writes there"):
        stored_form(changed, origin="a set")
