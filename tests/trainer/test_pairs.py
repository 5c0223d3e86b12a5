"""Pairs of real datasets against the tars as webdataset reads them, and the images as Pillow does."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pairs_by_hand import (
    CLASSES,
    SIZE,
    MakeSet,
    batches,
    keys_of,
    replayed,
    rows_of,
    stored_in,
)
from stored_records import canvas_of, npy
from torch.utils.data import DataLoader

from dad_datasets.errors import UserError
from dad_trainer.reading import open_pairs


@pytest.mark.parametrize("store", ["full", "clean"])
def test_a_pair_is_what_webdataset_and_pillow_read(make_set: MakeSet, clean_folder: Path, store: str) -> None:
    path = make_set(store)
    pairs, stored, rows = open_pairs(path), stored_in(path), rows_of(path)
    assert (pairs.num_classes, pairs.size, pairs.class_names) == (CLASSES, SIZE, ("class0", "class1", "class2"))
    assert sorted(keys_of(pairs)) == sorted(rows)
    assert len(pairs) == 72
    assert len(stored) == 48
    for place in range(len(pairs)):
        pair = pairs.read(place)
        row = rows[pair.key]
        assert (pair.source_key, pair.view, pair.label) == (row["source_key"], row["view"], row["label"])
        assert pair.clean is not None
        assert pair.teacher_clean is not None
        np.testing.assert_array_equal(pair.clean, replayed(clean_folder, row))
        assert pairs.attacked[place] == (pair.key in stored)
        if pair.key not in stored:
            assert pair.adversarial is None
            assert pair.teacher_adversarial is None
            np.testing.assert_array_equal(pair.teacher_clean.values, np.array(row["teacher"], np.float16))
            continue
        members = stored[pair.key]
        assert pair.adversarial is not None
        assert pair.teacher_adversarial is not None
        np.testing.assert_array_equal(pair.adversarial, canvas_of(members["webp"]))
        np.testing.assert_array_equal(
            [pair.teacher_clean.values, pair.teacher_adversarial.values], npy(members["teacher.npy"])
        )
        assert pair.label == int(members["cls"])
        assert json.loads(members["json"])["source_key"] == pair.source_key
        if store == "clean":
            np.testing.assert_array_equal(pair.clean, canvas_of(members["clean.webp"]))


def test_samples_and_shards_say_which_records_belong_together(make_set: MakeSet) -> None:
    pairs, stored = open_pairs(make_set("full")), stored_in(make_set("full"))
    read = [pairs.read(place, clean=False, adversarial=False, teacher=False) for place in range(len(pairs))]
    assert len({(pair.source_key, int(sample)) for pair, sample in zip(read, pairs.samples, strict=True)}) == 24
    assert sorted(set(pairs.samples.tolist())) == list(range(24))
    tars = {
        (Path(stored[pair.key]["__url__"]).name, int(shard))
        for pair, shard in zip(read, pairs.shards, strict=True)
        if pair.key in stored
    }
    assert tars == {("tiny-00000.tar", 0), ("tiny-00001.tar", 1), ("tiny-00002.tar", 2)}


def test_only_what_is_asked_for_is_read(make_set: MakeSet) -> None:
    pairs = open_pairs(make_set("full"))
    place = int(np.flatnonzero(pairs.attacked)[0])
    clean = pairs.read(place, adversarial=False)
    assert clean.clean is not None
    assert clean.teacher_clean is not None
    assert (clean.adversarial, clean.teacher_adversarial) == (None, None)
    adversarial = pairs.read(place, clean=False, teacher=False)
    assert adversarial.adversarial is not None
    assert (adversarial.clean, adversarial.teacher_clean, adversarial.teacher_adversarial) == (None, None, None)


@pytest.mark.parametrize("store", ["full", "clean", "top_k"])
def test_records_read_together_are_those_read_one_by_one(make_set: MakeSet, store: str) -> None:
    pairs = open_pairs(make_set(store), temperature=4)
    order = [70, 3, 41, 3, -1, *range(0, 72, 5)]
    assert {bool(pairs.attacked[place]) for place in order} == {True, False}
    assert len({int(pairs.shards[place]) for place in order}) == 3
    for parts in ({}, {"clean": False}, {"adversarial": False}, {"teacher": False}):
        together = pairs.read_many(order, **parts)
        for place, pair in zip(order, together, strict=True):
            assert_equal_parts(asdict(pair), asdict(pairs.read(place, **parts)))
    assert pairs.read_many([]) == []
    with pytest.raises(IndexError):
        pairs.read_many([0, 72])


def assert_equal_parts(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, part in one.items():
        if isinstance(part, dict):
            assert_equal_parts(part, other[name])
        elif isinstance(part, np.ndarray):
            assert part.dtype == other[name].dtype
            np.testing.assert_array_equal(part, other[name])
        else:
            assert part == other[name], name


def test_top_k_rows_come_with_the_rest_of_one_temperature(make_set: MakeSet) -> None:
    path = make_set("top_k")
    stored, rows = stored_in(path), rows_of(path)
    for column, temperature in enumerate((1.0, 4.0)):
        pairs = open_pairs(path, temperature=temperature)
        for place in range(len(pairs)):
            pair = pairs.read(place, clean=False, adversarial=True)
            if pair.key in stored:
                members = [npy(stored[pair.key][f"{name}.npy"]) for name in ("teacher", "teacher_ids", "teacher_rest")]
            else:
                row = rows[pair.key]
                members = [np.array([row[name]]) for name in ("teacher", "teacher_ids", "teacher_rest")]
            for number, teacher in enumerate((pair.teacher_clean, pair.teacher_adversarial)):
                if teacher is None:
                    assert (number, pair.key in stored) == (1, False)
                    continue
                np.testing.assert_array_equal(teacher.values, members[0][number])
                np.testing.assert_array_equal(teacher.ids, members[1][number])
                assert teacher.log_rest == pytest.approx(float(members[2][number, column]), rel=1e-7)


def test_top_k_needs_a_temperature_that_was_stored(make_set: MakeSet) -> None:
    with pytest.raises(UserError, match=r"temperature 2: .* keep the 2 largest logits, .* for temperature 1, 4 alone"):
        open_pairs(make_set("top_k"), temperature=2)
    pairs = open_pairs(make_set("top_k"))
    assert pairs.read(0, teacher=False).teacher_clean is None
    with pytest.raises(UserError, match="temperature: must be given, one of 1, 4"):
        pairs.read(0)
    assert len(open_pairs(make_set("full"), temperature=2)) == 72  # full logits serve any temperature


def test_samples_are_tensors_that_stack(make_set: MakeSet) -> None:
    pairs = open_pairs(make_set("full"))
    batch = next(iter(DataLoader(pairs, batch_size=len(pairs))))
    assert batch["clean"].shape == batch["adversarial"].shape == (72, 3, SIZE, SIZE)
    assert batch["clean"].dtype == batch["adversarial"].dtype == torch.uint8
    assert (batch["teacher"].shape, batch["teacher"].dtype) == ((72, 2, CLASSES), torch.float16)
    assert batch["attacked"].dtype == torch.bool
    for place in range(72):
        pair = pairs.read(place)
        assert pair.teacher_clean is not None
        shown = pair.clean if pair.adversarial is None else pair.adversarial
        np.testing.assert_array_equal(batch["clean"][place].permute(1, 2, 0).numpy(), pair.clean)
        np.testing.assert_array_equal(batch["adversarial"][place].permute(1, 2, 0).numpy(), shown)
        adversarial_row = pair.teacher_adversarial or pair.teacher_clean
        np.testing.assert_array_equal(
            batch["teacher"][place].numpy(), [pair.teacher_clean.values, adversarial_row.values]
        )
        assert (batch["key"][place], batch["source_key"][place]) == (pair.key, pair.source_key)
        assert (batch["label"][place], batch["view"][place]) == (pair.label, pair.view)
        assert batch["attacked"][place] == pairs.attacked[place]


def test_top_k_samples_are_tensors_that_stack(make_set: MakeSet) -> None:
    pairs = open_pairs(make_set("top_k"), temperature=4)
    batch = next(iter(DataLoader(pairs, batch_size=len(pairs))))
    shapes = {name: (tuple(batch[name].shape), batch[name].dtype) for name in batch if name.startswith("teacher")}
    assert shapes == {
        "teacher": ((72, 2, 2), torch.float16),
        "teacher_ids": ((72, 2, 2), torch.int64),
        "teacher_log_rest": ((72, 2), torch.float32),
    }
    for place in range(72):
        pair = pairs.read(place)
        assert pair.teacher_clean is not None
        assert batch["teacher_log_rest"][place, 0].item() == pair.teacher_clean.log_rest
        np.testing.assert_array_equal(batch["teacher_ids"][place, 0], pair.teacher_clean.ids)


def test_workers_and_pickling_make_no_difference(make_set: MakeSet) -> None:
    pairs = open_pairs(make_set("full"))
    pairs[3]  # opens files in this process, which the workers must not share
    copy = pickle.loads(pickle.dumps(pairs))
    for one, two, three in zip(batches(pairs, 0), batches(pairs, 2), batches(copy, 0), strict=True):
        for name in one:
            for other in (two, three):
                same = torch.equal(one[name], other[name]) if torch.is_tensor(one[name]) else one[name] == other[name]
                assert same, name


def test_an_index_beyond_the_end_ends_a_loop(make_set: MakeSet) -> None:
    pairs = open_pairs(make_set("full"))
    assert pairs.read(-1).key == pairs.read(71).key
    with pytest.raises(IndexError):
        pairs[72]


def test_codes_only_sets_give_clean_images_alone(make_set: MakeSet, clean_folder: Path) -> None:
    with pytest.raises(UserError, match=r"holds codes and no images; decode it with `dad expand` first"):
        open_pairs(make_set("codes"))
    pairs, rows = open_pairs(make_set("codes"), adversarial_images=False), rows_of(make_set("codes"))
    assert not pairs.attacked.any()
    assert len(pairs) == len(rows) == 72
    for place in range(len(pairs)):
        pair = pairs.read(place)
        assert pair.clean is not None
        assert pair.teacher_clean is not None
        assert (pair.adversarial, pair.teacher_adversarial) == (None, None)
        np.testing.assert_array_equal(pair.clean, replayed(clean_folder, rows[pair.key]))
        np.testing.assert_array_equal(pair.teacher_clean.values, np.array(rows[pair.key]["teacher"][:CLASSES], "f2"))


def test_where_is_applied_and_counted(make_set: MakeSet) -> None:
    pairs = open_pairs(make_set("full"), where="view == 0 and label != 1")
    rows = rows_of(make_set("full"))
    assert sorted(keys_of(pairs)) == sorted(k for k, row in rows.items() if row["view"] == 0 and row["label"] != 1)
    assert (pairs.counts.rows, pairs.counts.failed, pairs.counts.excluded) == (75, 3, 72 - len(pairs))
