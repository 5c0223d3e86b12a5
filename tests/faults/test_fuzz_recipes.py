"""Any text as a recipe: settings, or one printable sentence that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_files import damaged
from hypothesis import given, settings
from hypothesis import strategies as st

from dad_datasets.errors import UserError
from dad_datasets.settings import Settings, load_settings
from dad_pipeline.quantizer_checkpoint import read_architecture
from dad_pipeline.quantizer_training.settings import QuantizerRecipe
from dad_pipeline.recipe import Recipe
from dad_trainer.evaluation.settings import EvaluationRecipe
from dad_trainer.sweep.settings import SweepSettings
from dad_trainer.training.recipe import TrainingRecipe

ROOT = Path(__file__).parents[2]
MODELS: list[type[Settings]] = [Recipe, TrainingRecipe, EvaluationRecipe, QuantizerRecipe, SweepSettings]
REAL = [(ROOT / "recipes" / name).read_bytes() for name in ("demo/generate.yaml", "cifar10/students.yaml")]
FIELDS = sorted({name for model in MODELS for name in model.model_fields} | {"kind", "path", "count", "scale", "name"})
SCALARS = st.one_of(
    st.sampled_from(["yes", "no", "null", "~", "1", "-1", "1e9", ".nan", ".inf", "0x10", "1:30", "''", "2026-01-01"]),
    st.sampled_from(["x", "timm", "centre", "dad", "*a", "&a x", "!!int 3", "!x y", "'", '"', "|", ">", "%", "@", "`"]),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(st.sampled_from([*FIELDS, "<<"]), inner), max_size=3).map(
            lambda pairs: f"{{{', '.join(f'{name}: {value}' for name, value in pairs)}}}"
        ),
    ),
    max_leaves=8,
)
LINES = st.lists(st.tuples(st.sampled_from(FIELDS), VALUES).map(lambda pair: f"{pair[0]}: {pair[1]}\n"), max_size=6)


def check(folder: Path, model: type[Settings], content: bytes, overrides: tuple[str, ...] = ()) -> None:
    path = folder / "recipe.yaml"
    path.write_bytes(content)
    try:
        load_settings(model, path, overrides)
    except UserError as error:
        told = str(error)
        assert told.isprintable(), repr(told)
        assert told.startswith((f"recipe {path}: ", "--set "))
        assert len(told) < 1000 + len(str(path))
        assert "using discriminator" not in told
        assert "after validation" not in told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes")


@given(model=st.sampled_from(MODELS), content=st.binary(max_size=200))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_bytes(folder: Path, model: type[Settings], content: bytes) -> None:
    check(folder, model, content)


@given(
    model=st.sampled_from(MODELS),
    content=st.sampled_from(REAL),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    kept=st.floats(0, 1),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_damage(
    folder: Path, model: type[Settings], content: bytes, changes: list[tuple[float, int]], kept: float
) -> None:
    check(folder, model, damaged(content, changes, kept))


@given(
    model=st.sampled_from(MODELS),
    lines=LINES,
    overrides=st.lists(st.tuples(st.sampled_from(FIELDS), VALUES), max_size=2),
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_fields_and_values(
    folder: Path, model: type[Settings], lines: list[str], overrides: list[tuple[str, str]]
) -> None:
    content = "".join(lines).encode("utf-8", "replace")
    check(folder, model, content, tuple(f"{name}={value}" for name, value in overrides))


@given(lines=LINES, suffix=st.sampled_from([".yaml", ".json"]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_quantizer_config(folder: Path, lines: list[str], suffix: str) -> None:
    path = folder / f"config{suffix}"
    path.write_bytes("".join(lines).encode("utf-8", "replace"))
    with pytest.raises(UserError, match="quantizer config"):
        read_architecture(path)
