"""The manifest: a plain document, and the refusal of a rerun with other settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.layout import MANIFEST
from dad_datasets.manifest import Manifest, fingerprint_of, flatten, read_manifest, require_same_run, write_manifest

BEGUN: dict[str, object] = {
    "attack": {"epsilon": 0.1, "norm": "l2"},
    "teachers": [{"kind": "timm", "sha256": "aa"}, {"kind": "timm", "sha256": "bb"}],
    "temperatures": [1.0, 4.0],
    "note": None,
}
RECIPE: dict[str, object] = {
    "source": {"path": "a"},
    "store": {"image": "webp"},
    "views": {"size": 8},
    "samples_per_shard": 10,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def manifest(fingerprinted: dict[str, object]) -> Manifest:
    return Manifest(
        kind="adversarial",
        state="running",
        fingerprint=fingerprint_of(fingerprinted),
        fingerprinted=fingerprinted,
        recipe=RECIPE,
        class_names=("ant", "bee ü"),
        num_classes=2,
        shards=0,
        samples=0,
        clean_sha256="",
    )


def test_an_adversarial_manifest_without_its_recipe_is_refused(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    write_manifest(folder, manifest(BEGUN).model_copy(update={"recipe": {"source": {}, "views": {}}}))
    with pytest.raises(UserError, match=r"manifest\.json: its recipe lacks store, samples_per_shard"):
        read_manifest(folder)


def test_it_comes_back_with_equal_bytes(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    write_manifest(folder, manifest(BEGUN))
    before = (tmp_path / MANIFEST).read_bytes()
    assert read_manifest(folder) == manifest(BEGUN)
    write_manifest(folder, read_manifest(folder))
    assert (tmp_path / MANIFEST).read_bytes() == before


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_the_fingerprint_survives_storing_and_order(fingerprinted: dict[str, object]) -> None:
    stored = json.loads(json.dumps(fingerprinted))
    assert fingerprint_of(stored) == fingerprint_of(dict(reversed(fingerprinted.items())))
    require_same_run(manifest(stored), fingerprinted, where="out")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"attack": {"epsilon": 0.5, "norm": "l2"}}, "(attack.epsilon: 0.1 there, 0.5 now)"),
        ({"attack": {"epsilon": 0.1}}, '(attack.norm: "l2" there, absent now)'),
        (
            {"teachers": [{"kind": "timm", "sha256": "aa"}, {"kind": "timm", "sha256": "cc"}]},
            '(teachers.1.sha256: "bb" there, "cc" now)',
        ),
        ({"temperatures": (1.0,)}, "(temperatures: [1.0, 4.0] there, [1.0] now)"),
        ({"added": None}, "(added: absent there, null now)"),
        ({"note": "x" * 99}, f'(note: null there, "{"x" * 56}... now)'),
    ],
)
def test_a_refusal_names_what_differs(changes: dict[str, object], named: str) -> None:
    with pytest.raises(UserError) as refusal:
        require_same_run(manifest(BEGUN), {**BEGUN, **changes}, where="out")
    assert str(refusal.value).startswith(f"out was begun with other settings {named}: rerun with those")


def test_a_refusal_names_at_most_eight() -> None:
    before: dict[str, object] = {f"field{number}": number for number in range(10)}
    now = {f"field{number}": number + 1 for number in range(10)}
    with pytest.raises(UserError, match=r"field7: 7 there, 8 now \(and 2 more\)\)") as refusal:
        require_same_run(manifest(before), now, where="out")
    assert "field8" not in str(refusal.value)


def test_tuples_are_lists() -> None:
    require_same_run(manifest(BEGUN), {**BEGUN, "temperatures": (1.0, 4.0)}, where="out")


def test_flatten_keeps_every_leaf() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": [{"e": 2}, 3], "f": [4]}) == {
        "a.b": 1,
        "a.c": {},
        "d.0.e": 2,
        "d.1": 3,
        "f": [4],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"[]", "manifest.json: should be a section of fields"),
        (b"{}", "kind: is required"),
        (b'{"format_version": 2}', "format_version = 2: should be 1"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(UserError, match=message) as refusal:
        read_manifest(LocalFolder(tmp_path))
    assert "\n" not in str(refusal.value)


def test_an_unknown_field_is_refused(tmp_path: Path) -> None:
    document = manifest(BEGUN).model_dump(mode="json") | {"created": "today"}
    (tmp_path / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(UserError, match="created: unknown field"):
        read_manifest(LocalFolder(tmp_path))


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(UserError, match=r"is not a dataset: it has no manifest\.json"):
            read_manifest(LocalFolder(path))
