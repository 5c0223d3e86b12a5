"""Another teacher's labels read in place of a set's logits: against the set that this teacher would have had."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny_labels import as_if_generated, label, label_recipe
from tiny_run import RawRecipe, run_recipe
from tiny_training import checkpoint, train, training_recipe
from torch.utils.data import DataLoader

from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.labels import labels_folder
from dad_datasets.manifest import read_manifest, write_manifest
from dad_trainer.reading import Pairs, open_pairs

MakeSet = Callable[[str], Path]

TOP_K = {"top_k": 2, "temperatures": [1.0, 4.0]}


def recipe_of(path: Path) -> RawRecipe:
    return dict(read_manifest(open_folder(path)).recipe)


@pytest.fixture(scope="module")
def labelled(make_set: MakeSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The full set with two labels of one teacher: all logits, and the two largest."""
    path = Path(shutil.copytree(make_set("full"), tmp_path_factory.mktemp("labelled") / "set"))
    recipe = label_recipe(recipe_of(path))
    label(path, recipe, "other")
    label(path, recipe | {"logits": TOP_K}, "short")
    return path


@pytest.fixture(scope="module")
def expected(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images with that teacher's logits as their own."""
    out = tmp_path_factory.mktemp("expected") / "set"
    complete, screen = run_recipe(as_if_generated(recipe_of(labelled)), out)
    assert complete, screen
    return out


@pytest.fixture
def copied(labelled: Path, tmp_path: Path) -> Path:
    """The labelled set, to be damaged."""
    return Path(shutil.copytree(labelled, tmp_path / "set"))


def require_equal(one: Pairs, other: Pairs) -> None:
    assert len(one) == len(other) > 0
    for place in range(len(one)):
        here, there = one[place], other[place]
        assert here.keys() == there.keys()
        for name, value in here.items():
            assert np.array_equal(value, there[name]), (place, name)


def test_the_records_are_those_of_a_set_with_this_teacher(labelled: Path, expected: Path) -> None:
    pairs = open_pairs(labelled, teacher="other")
    require_equal(pairs, open_pairs(expected))
    own = open_pairs(labelled)
    assert not torch.equal(torch.as_tensor(own[0]["teacher"]), torch.as_tensor(pairs[0]["teacher"]))
    assert (pairs.counts.rows, pairs.counts.failed, pairs.counts.kept) == (75, 3, 72)
    assert (pairs.title, own.title) == (f"{labelled} (teacher other)", str(labelled))
    require_equal(pickle.loads(pickle.dumps(pairs)), pairs)
    batch = next(iter(DataLoader(pairs, batch_size=len(pairs), num_workers=1)))
    assert torch.equal(batch["teacher"][5], torch.as_tensor(pairs[5]["teacher"]))


def test_labels_may_keep_fewer_logits_than_the_set(labelled: Path) -> None:
    full, short = open_pairs(labelled, teacher="other"), open_pairs(labelled, teacher="short", temperature=4.0)
    assert (full.top_k, short.top_k) == (None, 2)
    for place in range(len(full)):
        whole, kept = full[place], short[place]
        assert isinstance(kept["teacher_ids"], torch.Tensor)
        taken = torch.as_tensor(whole["teacher"]).gather(1, kept["teacher_ids"])
        assert torch.equal(taken, torch.as_tensor(kept["teacher"]))
    with pytest.raises(UserError, match=r"temperature 2: .* keep the 2 largest logits"):
        open_pairs(labelled, teacher="short", temperature=2.0)


def test_where_speaks_of_the_teacher_whose_logits_are_read(labelled: Path, expected: Path) -> None:
    rows = [row for path in expected.glob("index/*") for row in pq.read_table(path).to_pylist()]
    bound = float(np.median([row["teacher_adv_confidence"] for row in rows if row["status"] == "ok"]))
    where = f"teacher_adv_confidence > {bound!r} and codes_changed_by_attack > 0.01 or view == 2"
    pairs = open_pairs(labelled, where=where, teacher="other")
    require_equal(pairs, open_pairs(expected, where=where))
    own = open_pairs(labelled, where=where)
    keys = [[one.read(place, teacher=False).key for place in range(len(one))] for one in (pairs, own)]
    assert keys[0] != keys[1], "the two teachers agree too much for this test"


def test_views_on_which_the_teacher_failed_have_failed(copied: Path) -> None:
    path = copied / "labels/other/index/tiny-00001.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    place = next(number for number, row in enumerate(rows) if row["status"] == "ok")
    rows[place] |= {"status": "failed", "reason": "non-finite model output"}
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)
    pairs = open_pairs(copied, teacher="other")
    assert (pairs.counts.failed, pairs.counts.kept) == (4, 71)
    assert rows[place]["key"] not in [pairs.read(n, teacher=False).key for n in range(len(pairs))]


def test_a_remote_set_is_read_through_the_cache(labelled: Path, tmp_path: Path) -> None:
    remote = fsspec.filesystem("memory")
    remote.put(f"{labelled}/", "/remote-labels/", recursive=True)
    pairs = open_pairs("memory://remote-labels", teacher="other", cache=tmp_path / "cache")
    require_equal(pairs, open_pairs(labelled, teacher="other"))
    assert len(list((tmp_path / "cache").glob("*tiny-00000.tar"))) == 2, "of the set and of the labels"


def test_a_student_learns_what_it_would_from_a_set_with_this_teacher(
    labelled: Path, expected: Path, tmp_path: Path
) -> None:
    raw = training_recipe(labelled)
    raw["shards"][0]["teacher"] = "other"
    finished, screen = train(raw, tmp_path / "labels", "epochs=1")
    assert finished
    assert f"{labelled} (teacher other): 72 of 75 views" in screen
    train(training_recipe(expected), tmp_path / "expected", "epochs=1")
    one, other = (checkpoint(tmp_path / name)["state_dict"] for name in ("labels", "expected"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(UserError, match=r"shards\.0\.teacher: 'other' there, None now"):
        train(training_recipe(labelled), tmp_path / "labels", "epochs=1")


def test_a_run_goes_on_with_the_labels_that_it_began_with_alone(copied: Path, tmp_path: Path) -> None:
    raw = training_recipe(copied)
    raw["shards"][0]["teacher"] = "other"
    train(raw, tmp_path / "run", "epochs=1")
    shutil.rmtree(copied / "labels/other")
    recipe = recipe_of(copied)
    label(copied, label_recipe(recipe, teacher=recipe["teacher"] | {"seed": 2}), "other")
    with pytest.raises(UserError, match=r"\(teacher other\) is not the set of shards that this run was begun on"):
        train(raw, tmp_path / "run", "epochs=1")


def test_sets_with_other_forms_of_logits_are_not_mixed(labelled: Path, tmp_path: Path) -> None:
    raw = training_recipe(labelled)
    raw["shards"] = [raw["shards"][0], {**raw["shards"][0], "teacher": "short"}]
    with pytest.raises(UserError, match=r"\(teacher short\) stores the 2 largest logits of each view, .* all logits"):
        train(raw, tmp_path / "run")


def change_manifest(path: Path, **changes: Any) -> None:
    folder = labels_folder(open_folder(path), "other")
    write_manifest(folder, read_manifest(folder).model_copy(update=changes))


def damage_the_manifest(path: Path) -> None:
    (path / "labels/other/manifest.json").write_text("{")


def lose_rows(path: Path) -> None:
    index = path / "labels/other/index/tiny-00001.parquet"
    pq.write_table(pq.read_table(index).slice(1), index)


def take_another_fingerprint(path: Path) -> None:
    index = path / "labels/other/index/tiny-00001.parquet"
    table = pq.read_table(index)
    summary = json.loads(table.schema.metadata[b"dad"]) | {"fingerprint": "0" * 64}
    pq.write_table(table.replace_schema_metadata({b"dad": json.dumps(summary)}), index)


def replace_a_shard_of_the_set(path: Path) -> None:
    table = pq.read_table(path / "shards.parquet").to_pylist()
    table[1]["tar_sha256"] = "0" * 64
    pq.write_table(pq.read_table(path / "shards.parquet").from_pylist(table), path / "shards.parquet")


REFUSALS: dict[str, tuple[Callable[[Path], None], str]] = {
    "none": (lambda path: shutil.rmtree(path / "labels/other"), r"has no labels 'other' \(there: short\)"),
    "a damaged manifest": (damage_the_manifest, r"labels/other/manifest\.json is not valid JSON"),
    "unfinished": (lambda path: change_manifest(path, state="running"), "is not finished; run `dad label` again"),
    "of other shards": (replace_a_shard_of_the_set, "was made for other shards than those of"),
    "other classes": (lambda path: change_manifest(path, class_names=("b", "a", "c")), "its classes are not those"),
    "another kind": (lambda path: change_manifest(path, kind="clean"), "holds clean shards"),
    "no shard": (lambda path: (path / "labels/other/shards/tiny-00001.tar").unlink(), "labels/other/.*is missing"),
    "no index": (lambda path: (path / "labels/other/index/tiny-00001.parquet").unlink(), "the index is missing"),
    "lost rows": (lose_rows, "the rows of unit tiny-00001 are not the views of the dataset"),
    "another run": (take_another_fingerprint, "unit tiny-00001 is not of these labels"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_labels_that_do_not_fit_are_refused(copied: Path, name: str) -> None:
    change, expected_message = REFUSALS[name]
    change(copied)
    with pytest.raises(UserError, match=expected_message):
        open_pairs(copied, teacher="other")


def test_what_is_no_name_is_refused(labelled: Path) -> None:
    with pytest.raises(UserError, match="a name is 1 to 100 letters"):
        open_pairs(labelled, teacher="../set")
