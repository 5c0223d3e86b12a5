"""Recipes: YAML files read into frozen typed models, every mistake told in one line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from dad_datasets.errors import UserError
from dad_datasets.mistakes import YesOrNo, describe_mistake, models_in, shortened
from dad_datasets.yaml_document import LARGEST_DOCUMENT_BYTES, YamlError, read_yaml


class Settings(BaseModel):
    """Base of every recipe section: immutable, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, raw: object) -> object:
        # pydantic would take `steps: yes`, which YAML reads as true, for 1.
        if not isinstance(raw, dict):
            return raw
        numbers = {name for name, field in cls.model_fields.items() if _takes_numbers_alone(field.annotation)}
        return {name: _without_bools(value) if name in numbers else value for name, value in raw.items()}


SettingsT = TypeVar("SettingsT", bound=Settings)


def read_recipe(path: Path, *, origin: str = "recipe") -> dict[str, Any]:
    """The mapping in a YAML file. UserError where it is missing, not YAML, or not a mapping."""
    try:
        with path.open("rb") as file:
            raw = read_yaml(file.read(LARGEST_DOCUMENT_BYTES + 1))  # never all of what may be a tar or a device
    except OSError as error:
        raise UserError(f"{origin} {path}: cannot be read: {error.strerror}") from None
    except YamlError as error:
        raise UserError(f"{origin} {path}: {error}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{origin} {path}: a mapping of fields was expected, found {type(raw).__name__}")
    return raw


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `raw` with `--set a.b=value` assignments; values are read as YAML."""
    result: dict[str, Any] = {**raw}
    for assignment in overrides:
        dotted, equals, text = assignment.partition("=")
        if not equals or not dotted:
            raise UserError(f"--set {shortened(assignment)}: expected FIELD=VALUE, such as attack.epsilon=0.5")
        try:
            value = read_yaml(os.fsencode(text))
        except YamlError:
            raise UserError(f"--set {shortened(assignment)}: the value is not valid YAML") from None
        section = result
        *parents, last = dotted.split(".")
        for parent in parents:
            child = section.get(parent)
            if child is not None and not isinstance(child, dict):
                raise UserError(f"--set {shortened(assignment)}: {parent} is {shortened(repr(child))}, not a section")
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


def _takes_numbers_alone(annotation: Any) -> bool:
    """Whether a field is for numbers, or for lists or mappings of them, and never for true and false."""
    parts = [annotation, *_parts_of(annotation)]
    others = any(part in (bool, Any, object) for part in parts) or models_in(annotation)
    return (int in parts or float in parts) and not others


def _parts_of(annotation: Any) -> list[Any]:
    return [part for inner in get_args(annotation) for part in (inner, *_parts_of(inner))]


def _without_bools(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_bools(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_bools(item) for item in value]
    return YesOrNo(value) if isinstance(value, bool) else value
