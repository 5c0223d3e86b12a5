"""What is wrong in a recipe, in one line: the field, the value that was given, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dad_datasets.terminal_text import printable

_MAPPINGS = (dict, Mapping)

_YES_AND_NO = "YAML reads yes, no, on and off as True and False; quotes make texts of them"

# pydantic speaks of Python's types; whoever writes YAML knows sections, lists and texts.
_IN_YAML = {
    "model_type": "should be a section of fields",
    "model_attributes_type": "should be a section of fields",
    "dict_type": "should be a section of fields",
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "string_type": "should be a text",
    "string_unicode": "should be a text without halves of characters",
    "path_type": "should be a path",
    "int_type": "should be a valid integer",
    "float_type": "should be a valid number",
    "int_parsing": "should be a valid integer",
    "int_parsing_size": "should be a smaller integer",
    "invalid_key": "a field's name should be a text",
}


@dataclass(frozen=True)
class YesOrNo:
    """A true or false where a number belongs, in a form that pydantic does not take for 1 or 0."""

    value: bool

    def __repr__(self) -> str:
        return repr(self.value)


def describe_mistake(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for the first mistake in `error`, raised by validating `model`, and how many more there are."""
    mistakes = _without_echoes([_problem(model, details) for details in error.errors(include_url=False)])
    fields = dict.fromkeys(problem.place.field for problem in mistakes)
    first = [problem for problem in mistakes if problem.place.field == next(iter(fields))]
    more = len(fields) - 1
    message = _sentence(first)
    return message if not more else f"{message} (and {more} more mistake{'s' if more > 1 else ''})"


def shortened(text: str) -> str:
    """At most 80 characters of `text`, on one line."""
    line = printable(text[:80]) + text[80:81]
    return line if len(line) <= 80 else f"{line[:77]}..."


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field of this type may be or hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]


@dataclass(frozen=True)
class _Place:
    """Where a mistake is, as the user wrote it: without the names of tags and of alternatives."""

    field: tuple[str, ...]
    sections: tuple[type[BaseModel], ...]
    """Those that may stand there; of an unknown field, the one that it was written in."""

    def __str__(self) -> str:
        return ".".join(map(shortened, self.field))


@dataclass(frozen=True)
class _Problem:
    details: ErrorDetails
    place: _Place


def _problem(model: type[BaseModel], details: ErrorDetails) -> _Problem:
    location = details["loc"]
    lacks_item = details["type"] == "missing" and isinstance(location[-1], int)
    return _Problem(details, _follow(model, location[:-1] if lacks_item else location))


def _without_echoes(problems: list[_Problem]) -> list[_Problem]:
    """A list is also found too short when an item in it is wrong, and a value wrong for every alternative type.

    What was found deepest within a field says what was meant.
    """

    def echoes(outer: _Problem, inner: _Problem) -> bool:
        same_start = inner.place.field[: len(outer.place.field)] == outer.place.field
        return same_start and len(inner.place.field) > len(outer.place.field)

    return [one for one in problems if not any(echoes(one, other) for other in problems)]


def _sentence(alternatives: list[_Problem]) -> str:
    """What is wrong with one field, whose value may be wrong for more than one alternative type."""
    first, field = alternatives[0].details, str(alternatives[0].place)
    sections = alternatives[0].place.sections
    context: Mapping[str, Any] = first.get("ctx", {})
    kinds = ", ".join(kind for section in sections for kind in _kinds(section))
    match first["type"]:
        case "extra_forbidden":
            allowed = sorted({name for section in sections for name in section.model_fields})
            close = difflib.get_close_matches(alternatives[0].place.field[-1][:80], allowed, n=1)
            hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(allowed)}"
            return f"{field}: unknown field; {hint}"
        case "missing" if isinstance(alternatives[-1].details["loc"][-1], int):
            count = alternatives[-1].details["loc"][-1] + 1
            return f"{field}{_shown(first['input'])}: needs {count} items"
        case "missing":
            return f"{field}: is required"
        case "union_tag_not_found":
            return f"{field}.kind: is required, one of {kinds}"
        case "union_tag_invalid":
            return f"{field}.kind = {shortened(repr(context['tag']))}: should be one of {kinds}"
        case "too_short" | "too_long":
            bound, limit = ("least", "min_length") if first["type"] == "too_short" else ("most", "max_length")
            count = context[limit]
            return f"{field}{_shown(first['input'])}: needs at {bound} {count} item{'s' if count > 1 else ''}"
        case _:
            said, *others = dict.fromkeys(_reason(problem.details) for problem in alternatives)
            reasons = ", or ".join([said, *(reason.removeprefix("should be ") for reason in others)])
            hint = f" ({_YES_AND_NO})" if isinstance(first["input"], bool | YesOrNo) else ""
            return f"{field}{_shown(first['input'])}: {reasons}{hint}" if field else reasons


def _reason(details: ErrorDetails) -> str:
    told = details["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return _IN_YAML.get(details["type"], " ".join(told.split()))


def _shown(value: object) -> str:
    """The value, unless it is a whole section, which would bury the reason."""
    return "" if isinstance(value, dict | BaseModel) else f" = {shortened(repr(value))}"


def _follow(model: type[BaseModel], location: tuple[int | str, ...]) -> _Place:
    """pydantic's location in the words of the recipe: it names each alternative of a union that it tried, too."""
    path: list[str] = []
    annotation: Any = model
    for part in location:
        alternatives = _alternatives(annotation)
        annotation = alternatives[0] if alternatives else None
        if len(alternatives) > 1:
            annotation = next((one for one in alternatives if _is_meant(one, part)), None)
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            path.append(str(part))
            if part not in annotation.model_fields:
                break  # pydantic goes no deeper
            annotation = annotation.model_fields[str(part)].annotation
        elif isinstance(part, int) or get_origin(annotation) in _MAPPINGS:
            path.append(str(part))
            inner = [one for one in get_args(annotation) if one is not Ellipsis]
            annotation = inner[-1] if inner else None
    return _Place(tuple(path), tuple(models_in(annotation)))


def _alternatives(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [one for inner in get_args(annotation) if inner is not NoneType for one in _alternatives(inner)]
    return [annotation]


def _is_meant(alternative: Any, label: int | str) -> bool:
    """Whether pydantic calls an alternative so: by the tag of a section, else by the name of its type."""
    if isinstance(alternative, type) and issubclass(alternative, BaseModel):
        return label in _kinds(alternative) or label == alternative.__name__
    name = getattr(get_origin(alternative) or alternative, "__name__", "")
    return str(label).startswith(f"{name}[")


def _kinds(model: type[BaseModel]) -> tuple[str, ...]:
    kind = model.model_fields.get("kind")
    return () if kind is None else get_args(kind.annotation)
