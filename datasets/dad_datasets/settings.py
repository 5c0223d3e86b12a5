"""Recipes: YAML files read into frozen typed models, every mistake told in one line."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dad_datasets.errors import UserError
from dad_datasets.mistakes import describe_mistake


class Settings(BaseModel):
    """Base of every recipe section: immutable, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


SettingsT = TypeVar("SettingsT", bound=Settings)


class _RecipeLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice (YAML would silently keep the last) and reads 1e-3 as a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            problem = "cannot be a key" if not isinstance(key, Hashable) else "stands twice" if key in seen else None
            if problem is not None:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} {problem}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_RecipeLoader.add_implicit_resolver(  # YAML 1.1 asks for a point and a signed exponent
    "tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def read_recipe(path: Path, *, origin: str = "recipe") -> dict[str, Any]:
    """The mapping in a YAML file. UserError where it is missing, not YAML, or not a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise UserError(f"{origin} {path}: cannot be read: {reason}") from None
    try:
        raw = yaml.load(text, Loader=_RecipeLoader)  # a SafeLoader: no tags, no objects
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-99-99
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise UserError(f"{origin} {path}:{where} {problem}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{origin} {path}: a mapping of fields was expected, found {type(raw).__name__}")
    return raw


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `raw` with `--set a.b=value` assignments; values are read as YAML."""
    result: dict[str, Any] = {**raw}
    for assignment in overrides:
        dotted, equals, text = assignment.partition("=")
        if not equals or not dotted:
            raise UserError(f"--set {assignment}: expected FIELD=VALUE, such as attack.epsilon=0.5")
        try:
            value = yaml.load(text, Loader=_RecipeLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise UserError(f"--set {assignment}: the value is not valid YAML") from None
        section = result
        *parents, last = dotted.split(".")
        for parent in parents:
            child = section.get(parent)
            if child is not None and not isinstance(child, dict):
                raise UserError(f"--set {assignment}: {parent} is {child!r}, not a section")
            section[parent] = {**(child or {})}
            section = section[parent]
        section[last] = value
    return result


def build_settings(model: type[SettingsT], raw: dict[str, Any], *, origin: str) -> SettingsT:
    """`model` validated from `raw`; UserError with one line for the first mistake (and how many more there are)."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{origin}: {describe_mistake(error, model)}") from None


def load_settings(model: type[SettingsT], path: Path, overrides: Sequence[str] = ()) -> SettingsT:
    """A recipe file with `--set` overrides applied, validated. Relative paths in it stay relative to the caller."""
    return build_settings(model, apply_overrides(read_recipe(path), overrides), origin=f"recipe {path}")
