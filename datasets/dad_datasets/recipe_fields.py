"""The fields of a recipe, as its types have them: name, what may stand there, default, meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from dad_datasets.errors import UserError
from dad_datasets.settings import Settings

RECIPES = "dad.recipes"
"""Entry points: the name of a command, and the type of the recipe that it takes."""

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_NAMES: Mapping[Any, str] = {bool: "true or false", int: "integer", float: "number", str: "text", Path: "path"}
_PLAIN = ("section", "integer", "number", "text", "path")
"""Words whose plural takes an s."""


@dataclass(frozen=True)
class FieldRow:
    name: str
    values: str
    default: str
    """As YAML has it; `required`; or nothing where the section itself says."""
    meaning: str


@dataclass(frozen=True)
class Section:
    """The fields that stand together. `place` is empty for the recipe itself; lists and mappings end in `[]`."""

    place: str
    kind: str
    """Where sections of several kinds may stand in a place, the `kind` of this one."""
    meaning: str
    rows: tuple[FieldRow, ...]

    @property
    def title(self) -> str:
        return f"{self.place}, kind {self.kind}" if self.kind else self.place

    def is_within(self, place: str) -> bool:
        """Whether it stands in `place` or below it, both without `[]`."""
        return f"{self.place.replace('[]', '')}.".startswith(f"{place}.")


def recipe_type(command: str) -> type[Settings]:
    """UserError for a command without a recipe, and where the extra is absent that has the command."""
    known = {entry.name: entry for entry in entry_points(group=RECIPES)}
    if command not in known:
        raise UserError(f"{command}: no command with a recipe; expected one of {', '.join(sorted(known))}")
    try:
        recipe: type[Settings] = known[command].load()
    except ModuleNotFoundError as error:
        extra = known[command].module.partition(".")[0].removeprefix("dad_")
        raise UserError(
            f"{error.name} is not installed; dad {command} needs: "
            f"pip install 'discrete-adversarial-distillation[{extra}]'"
        ) from None
    return recipe


def sections_of(recipe: type[Settings]) -> list[Section]:
    """The recipe's own fields first, then each section where it is first named; one that comes twice, once."""
    return list(_Walk().sections("", recipe))


@dataclass
class _Walk:
    told: dict[type[Settings], str] = field(default_factory=dict)
    """The place where each section is told, the first one that names it."""

    def sections(self, place: str, model: type[Settings], kind: str = "") -> Iterator[Section]:
        self.told.setdefault(model, place)
        below: list[tuple[str, type[Settings], str]] = []
        rows = []
        for name, info in model.model_fields.items():
            words, held = _values(info.annotation, f"{place}.{name}".removeprefix("."))
            new = [one for one in held if one not in self.told]
            below += [(held[one], one, _kinds(one) if len(held) > 1 else "") for one in new]
            self.told |= {one: held[one] for one in new}
            if held and not new:
                words += f", as {self.told[next(iter(held))]}"
            meaning = info.description or (_meaning(next(iter(held))) if len(held) == 1 else "")
            rows.append(FieldRow(name, _with_bounds(words, info), _default(info, is_section=bool(held)), meaning))
        yield Section(place, kind, _meaning(model), tuple(rows))
        for inner in below:
            yield from self.sections(*inner)


_Held = dict[type[Settings], str]
"""Sections that may stand in a field or in the lists and mappings there, and their places."""


def _values(annotation: Any, place: str) -> tuple[str, _Held]:
    """What may stand in `place`, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return "section", {annotation: place}
    if origin is Annotated:
        return _values(inner[0], place)
    if origin is Literal:
        return _either(list(map(_yaml, inner))), {}
    if origin in (Union, UnionType):
        told = [_values(one, place) for one in inner if one is not NoneType]
        words = list(dict.fromkeys(words for words, _ in told)) + ["null"] * (NoneType in inner)
        return _either(words), {one: where for _, held in told for one, where in held.items()}
    if origin in (tuple, list) and (len(inner) == 1 or inner[-1] is Ellipsis):
        item, held = _values(inner[0], f"{place}[]")
        return (f"list of {item}s" if item in _PLAIN else f"list of {item}"), held
    if origin is tuple:
        return f"[{', '.join(_values(one, place)[0] for one in inner)}]", {}
    if origin in (dict, Mapping):
        return f"mapping of {_values(inner[0], place)[0]}s", {}
    return _NAMES.get(annotation, "anything"), {}


def _either(words: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _kinds(model: type[Settings]) -> str:
    return ", ".join(get_args(model.model_fields["kind"].annotation)) if "kind" in model.model_fields else ""


def _meaning(model: type[Settings]) -> str:
    """The first paragraph of its docstring."""
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _with_bounds(words: str, info: FieldInfo) -> str:
    bounds = [
        f"{said} {_yaml(getattr(limit, name))}"
        for limit in info.metadata
        for name, said in _BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join([words, *bounds])


def _default(info: FieldInfo, *, is_section: bool) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Settings) or (is_section and value):
        return ""
    return _yaml(value)


def _yaml(value: Any) -> str:
    """A value as one writes it in a recipe."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_yaml, value))}]"
    return json.dumps(value)
