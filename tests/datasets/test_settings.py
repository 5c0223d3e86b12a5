"""Recipes: what YAML and `--set` may say, and every mistake in one line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from dad_datasets.errors import UserError
from dad_datasets.settings import Settings, apply_overrides, build_settings, load_settings, read_recipe


class AttackSettings(Settings):
    epsilon: float = Field(1.0, gt=0)
    norm: Literal["l2", "linf"] = "l2"


class RunSettings(Settings):
    seed: int
    attack: AttackSettings = AttackSettings()
    batch: int | Literal["auto"] = "auto"


def load(path: Path, text: str, *overrides: str) -> RunSettings:
    (path / "recipe.yaml").write_text(text)
    return load_settings(RunSettings, path / "recipe.yaml", overrides)


def test_a_recipe_is_read(tmp_path: Path) -> None:
    settings = load(tmp_path, "seed: 3\nattack: {epsilon: 1e-3, norm: linf}\n")
    assert settings == RunSettings(seed=3, attack=AttackSettings(epsilon=0.001, norm="linf"))
    with pytest.raises(ValidationError):
        settings.seed = 4  # type: ignore[misc]


@pytest.mark.parametrize("text", ["1e-3", "1E3", "-2.5e+4", ".5e1", "3.e2", "+1e0"])
def test_exponents_are_numbers_wherever_they_stand(text: str) -> None:
    assert apply_overrides({}, [f"a={text}"]) == {"a": float(text)}


@pytest.mark.parametrize("text", ["1e", "e5", "abc", "1e5x", "1.2.3e4", "l2"])
def test_words_stay_words(text: str) -> None:
    assert apply_overrides({}, [f"a={text}"]) == {"a": text}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nsead: 2\n", "sead: unknown field"),
        ("attack: {}\n", "seed: is required"),
        ("seed: many\n", "seed = 'many': should be a valid integer"),
        ("seed: 1\nattack: {epsilon: -1}\n", "attack.epsilon = -1: should be greater than 0"),
        ("seed: 1\nattack: {epsilon: .nan}\n", "attack.epsilon = nan: should be"),
        ("seed: 1\nattack: {epsilon: .inf}\n", "attack.epsilon = inf: should be a finite number"),
        ("seed: 1\nattack: {norm: l1}\n", "attack.norm = 'l1': should be 'l2' or 'linf'"),
        ("seed: 1\nattack: 7\n", "attack = 7: should be a section of fields"),
        ("seed: x\nsead: 2\nattack: 7\n", "(and 2 more mistakes)"),
        ("seed: [" + "1, " * 60 + "]\n", "..."),
        ("seed: 1\nseed: 2\n", "line 2 the key 'seed' stands twice"),
        ("seed: 1\nattack:\n  norm: l2\n  norm: l2\n", "line 4 the key 'norm' stands twice"),
        ("? [a]\n: 1\n", "line 1 a list or a mapping cannot be a key"),
        (
            "seed: !!python/object/apply:os.getcwd []\n",
            "line 1 the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd' is refused",
        ),
        ("seed: !mine 1\n", "line 1 the tag '!mine' is refused: a recipe holds plain values"),
        ("seed: 2026-99-99\n", "not valid YAML"),
        ("seed: 0x_\n", "not valid YAML"),
        ("seed: {\n", "line 2"),
        ("seed: " + "[" * 5000, "not valid YAML"),
        ("- 1\n", "a mapping of fields was expected, found list"),
        ("", "a mapping of fields was expected, found NoneType"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as refusal:
        load(tmp_path, text)
    told = str(refusal.value)
    assert told.startswith(f"recipe {tmp_path / 'recipe.yaml'}:")
    assert message in told
    assert "\n" not in told
    assert len(told) < 300 + len(str(tmp_path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"seed: \xff")
    cases = {"missing.yaml": "No such file", "latin.yaml": "not UTF-8 text", "": "Is a directory"}
    for name, message in cases.items():
        with pytest.raises(UserError, match=f"cannot be read: {message}"):
            read_recipe(tmp_path / name)


def test_overrides_reach_into_sections(tmp_path: Path) -> None:
    settings = load(tmp_path, "seed: 3\n", "attack.epsilon=1e-2", "seed=4", "batch=16", "seed=5")
    assert settings == RunSettings(seed=5, attack=AttackSettings(epsilon=0.01), batch=16)
    assert apply_overrides({"a": None}, ["a.b.c=[1, x]", "d="]) == {"a": {"b": {"c": [1, "x"]}}, "d": None}
    assert apply_overrides({}, ["path=a=b"]) == {"path": "a=b"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set seed: expected FIELD=VALUE"),
        ("=3", "--set =3: expected FIELD=VALUE"),
        ("seed={", "--set seed={: the value is not valid YAML"),
        ("seed=2026-99-99", "the value is not valid YAML"),
        ("seed={a: 1, a: 2}", "the value is not valid YAML"),
        ("seed.x=3", "--set seed.x=3: seed is 3, not a section"),
        ("attack..norm=l2", "attack.: unknown field"),
        ("seed=x", "seed = 'x': should be a valid integer"),
    ],
)
def test_wrong_overrides(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError) as refusal:
        load(tmp_path, "seed: 3\n", override)
    assert message in str(refusal.value)


NAMES = st.sampled_from("abc")
TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=6)


@given(st.dictionaries(NAMES, TREES, max_size=3), st.lists(NAMES, min_size=1, max_size=3), TREES)
def test_an_override_sets_one_field_of_a_copy(raw: dict[str, Any], path: list[str], value: object) -> None:
    before = copy.deepcopy(raw)
    assignment = f"{'.'.join(path)}={yaml.safe_dump(value, default_flow_style=True)}"
    try:
        result: Any = apply_overrides(raw, [assignment])
    except UserError as error:
        assert "not a section" in str(error)  # noqa: PT017 - both outcomes are right
        result = None
    assert raw == before
    if result is not None:
        others = {name: part for name, part in result.items() if name != path[0]}
        assert others == {name: part for name, part in raw.items() if name != path[0]}
        for name in path:
            result = result[name]
        assert result == value


def test_the_origin_is_named() -> None:
    with pytest.raises(UserError, match=r"^the dataset's recipe: seed: is required$"):
        build_settings(RunSettings, {}, origin="the dataset's recipe")
