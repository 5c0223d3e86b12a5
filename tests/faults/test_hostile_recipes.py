"""Recipes made to do harm, or by somebody who does not know YAML's traps: one sentence, at once."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from dad_datasets.errors import UserError
from dad_datasets.settings import Settings, load_settings, read_recipe
from dad_datasets.yaml_document import LARGEST_DOCUMENT_BYTES
from dad_pipeline.recipe import Recipe
from dad_trainer.training.recipe import TrainingRecipe

GENERATE = """
source: {path: photos}
views: {size: 16}
teacher: {kind: timm, architecture: test_resnet, checkpoint: random, seed: 0}
quantizer: {checkpoint: q}
"""
TRAIN = """
shards: [{path: set}]
student: {architecture: resnet18}
epochs: 1
"""


def load(model: type[Settings], folder: Path, text: str, *overrides: str) -> Settings:
    (folder / "r.yaml").write_text(text)
    return load_settings(model, folder / "r.yaml", overrides)


def mistake(model: type[Settings], folder: Path, text: str, *overrides: str) -> str:
    """What the user is told, without the file's name."""
    with pytest.raises(UserError) as refusal:
        load(model, folder, text, *overrides)
    told = str(refusal.value)
    assert told.isprintable()
    assert len(told) < 500 + len(str(folder))
    return told.removeprefix(f"recipe {folder / 'r.yaml'}: ")


def laughs(merged: bool) -> str:
    """Nine aliases of nine aliases, ten deep: 9^10 values in half a kilobyte."""
    lines = ["a: &a {x: 1}" if merged else "a: &a [lol]"]
    for above, name in zip("abcdefghi", "bcdefghij", strict=True):
        aliases = ", ".join([f"*{above}"] * 9)
        lines.append(f"{name}: &{name} {{<<: [{aliases}], {name}0: 1}}" if merged else f"{name}: &{name} [{aliases}]")
    return "\n".join([GENERATE, *lines, ""])


@pytest.mark.timeout(20)
@pytest.mark.parametrize("merged", [False, True])
def test_a_billion_laughs_are_refused_at_once(tmp_path: Path, merged: bool) -> None:
    told = mistake(Recipe, tmp_path, laughs(merged))
    assert re.fullmatch(r"line \d+ with its aliases written out more than 1,048,576 bytes", told)


@pytest.mark.timeout(20)
def test_a_long_text_named_often_is_refused(tmp_path: Path) -> None:
    text = f"a: &a {'x' * 50_000}\nb: [{', '.join(['*a'] * 50)}]\n"
    assert "with its aliases written out" in mistake(Recipe, tmp_path, text)


def test_aliases_and_merge_keys_work(tmp_path: Path) -> None:
    text = """
base: &base {kind: timm, architecture: test_resnet, checkpoint: random, seed: 1}
more: &more {<<: *base, seed: 2}
teacher: {<<: *more, image_size: 32}
attacked: {<<: [{seed: 3, extra: 4}, *base]}
"""
    (tmp_path / "r.yaml").write_text(text)
    raw = read_recipe(tmp_path / "r.yaml")
    timm = {"kind": "timm", "architecture": "test_resnet", "checkpoint": "random"}
    assert raw["more"] == {**timm, "seed": 2}
    assert raw["teacher"] == {**timm, "seed": 2, "image_size": 32}
    assert raw["attacked"] == {**timm, "seed": 3, "extra": 4}


def test_an_override_of_a_shared_section_changes_one_of_them(tmp_path: Path) -> None:
    shared = "<<: &t {kind: timm, architecture: test_resnet, checkpoint: random, seed: 0}"
    text = GENERATE.replace("{kind: timm, architecture: test_resnet, checkpoint: random, seed: 0}", f"{{{shared}}}")
    recipe: Any = load(Recipe, tmp_path, text + "attack: {model: *t}\n", "attack.model.seed=5")
    assert (recipe.teacher.seed, recipe.attack.model.seed) == (0, 5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: !!python/object/apply:os.mkdir [it-ran]", r"line 6 the tag 'tag:yaml.org,2002:python/object/apply"),
        ("seed: !!python/name:os.system", r"line 6 the tag 'tag:yaml.org,2002:python/name:os.system' is refused"),
        ("seed: !!python/object/new:os.system [id]", r"line 6 the tag .* is refused: a recipe holds plain values"),
        ("seed: !!binary aGk=", r"line 6 the tag 'tag:yaml.org,2002:binary' is refused"),
        ("seed: !!bool x", r"line 6 the tag .* is refused"),
        ("seed: !!timestamp x", r"line 6 the tag .* is refused"),
        ("seed: !%0A 3", r"line 6 the tag '!\\n' is refused"),
        ("? !!python/name:os.system\n: 1", r"line 6 the tag .* is refused"),
        ("<<: 3", r"line 6 expected a mapping or list of mappings for merging, but found scalar"),
        ("<<: {}\n<<: {}", r"line 7 the key '<<' stands twice: give it a list"),
        ("seed: &a [*a]", r"line 6 an alias stands within what it is the name of"),
        ("attack: &a\n  model: *a", r"line 6 an alias stands within what it is the name of"),
        ("seed: *nowhere", r"line 6 found undefined alias 'nowhere'"),
        ('seed: "a\\0b"', r"line 6 a control character or half of a character stands in a text"),
        ('class_names: ["\\ud800"]', r"line 6 a control character or half of a character stands in a text"),
        ('class_names: ["\\e[31m"]', r"line 6 a control character or half of a character stands in a text"),
        ("seed: " + "9" * 5000, r"line 6 a number of 5,000 characters"),
        ("seed: 1" + ":1" * 5000, r"line 6 a number of 10,001 characters"),
        ("seed: 0x" + "f" * 5000, r"line 6 a number of 5,002 characters"),
        ("seed: " + "[" * 90 + "]" * 90, r"seed = \[\[.*\.\.\.: should be a valid integer"),
        ('"a\\tb": 1', r"a\\tb: unknown field; allowed: attack, .*"),
        ("x" * 500 + ": 1", r"x{77}\.\.\.: unknown field; allowed: attack, .*"),
        ("1: 1", r"1 = 1: a field's name should be a text"),
    ],
)
def test_yaml_that_no_recipe_needs_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    assert re.match(told, mistake(Recipe, tmp_path, f"{GENERATE}{text}\n"))
    assert not Path("it-ran").exists()


def test_a_file_too_large_for_a_recipe_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    with path.open("wb") as stream:
        stream.truncate(100 * 2**30)
    with pytest.raises(UserError, match=f"has more than {LARGEST_DOCUMENT_BYTES:,} bytes"):
        read_recipe(path)
    with pytest.raises(UserError, match="has more than"):
        read_recipe(Path(os.devnull).with_name("zero"))


HINT = r" \(YAML reads yes, no, on and off as True and False; quotes make texts of them\)"


@pytest.mark.parametrize(
    ("model", "override", "told"),
    [
        (Recipe, "attack.steps=yes", f"attack.steps = True: should be a valid integer{HINT}"),
        (Recipe, "attack.epsilon=on", f"attack.epsilon = True: should be a valid number{HINT}"),
        (Recipe, "compute.threads=no", f"compute.threads = False: should be a valid integer, or 'auto'{HINT}"),
        (
            Recipe,
            "views.draw=[{kind: random_resized_crop, scale: [yes, 1]}]",
            f"views.draw.0.scale.0 = True: should be a valid number{HINT}",
        ),
        (Recipe, "class_names=[no, yes]", rf"class_names.0 = False: should be a text{HINT} \(and 1 more mistake\)"),
        (Recipe, "attack.norm=no", f"attack.norm = False: should be 'l2' or 'linf'{HINT}"),
        (TrainingRecipe, "epochs=yes", f"epochs = True: should be a valid number{HINT}"),
        (TrainingRecipe, "student.mean=[0, 1, off]", f"student.mean.2 = False: should be a valid number{HINT}"),
        (TrainingRecipe, "shards=[{path: on}]", f"shards.0.path = True: should be a text{HINT}"),
    ],
)
def test_yes_is_no_number(model: type[Settings], override: str, told: str, tmp_path: Path) -> None:
    assert re.fullmatch(told, mistake(model, tmp_path, GENERATE if model is Recipe else TRAIN, override))


def test_yes_stays_yes_where_it_is_meant(tmp_path: Path) -> None:
    recipe: Any = load(Recipe, tmp_path, GENERATE, "store.clean=yes", "compute.deterministic=off")
    assert (recipe.store.clean, recipe.compute.deterministic) == (True, False)
    training: Any = load(TrainingRecipe, tmp_path, TRAIN, "student.options={norm: yes}")
    assert training.student.options == {"norm": True}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("teacher={}", "teacher.kind: is required, one of open_clip_zero_shot, open_clip_linear, timm, ensemble"),
        ("teacher={kind: clip}", "teacher.kind = 'clip': should be one of open_clip_zero_shot, .*"),
        (
            "teacher={kind: ensemble, members: [{}, {}]}",
            r"teacher.members.0.kind: is required, one of .* \(and 1 more mistake\)",
        ),
        ("attack.model={}", "attack.model.kind: is required, one of .*"),
        ("teacher=clip", "teacher = 'clip': should be a section of fields"),
        ("views.draw=[]", r"views.draw = \[\]: needs at least 1 item"),
        ("views.draw=[{}]", "views.draw.0.kind: is required, one of centre, random_resized_crop, pad_crop"),
        ("views.draw={kind: centre}", "views.draw: should be a list"),
        ("views.draw=[{kind: random_resized_crop, scale: [1]}]", r"views.draw.0.scale = \[1\]: needs 2 items"),
        ("views.draw=[{kind: random_resized_crop, scale: [1, 2, 3]}]", r".*scale = \[1, 2, 3\]: needs at most 2 items"),
        ("views.draw=[{kind: pad_crop, pad: 4}]", r"views.draw.0.pad: unknown field; did you mean padding\?"),
        ("store.logits=half", "store.logits = 'half': should be 'full', or a section of fields"),
        ("store.logits={}", "store.logits.top_k: is required"),
        ("store.logits={top_k: 2, temperature: 4}", r"store.logits.temperature: unknown field; did you mean temp.*"),
        ("store.logits={top_k: 2, temperatures: []}", r"store.logits.temperatures = \[\]: needs at least 1 item"),
        ("class_names=foo", "class_names = 'foo': should be 'imagenet', or a list"),
        ("store.image=bmp", "store.image = 'bmp': should be 'webp', 'png' or 'jpg', or 'none'"),
        ("source=photos", "source = 'photos': should be a section of fields"),
    ],
)
def test_every_mistake_is_one_clear_sentence(override: str, told: str, tmp_path: Path) -> None:
    assert re.fullmatch(told, mistake(Recipe, tmp_path, GENERATE, override))
