"""What is wrong in a recipe, in one line: the field, the value that was given, what is allowed."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def describe_mistake(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for the first mistake in `error`, raised by validating `model`, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    path, allowed = _follow(model, first["loc"])
    field = ".".join(path) or "recipe"
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(path[-1], allowed, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(sorted(allowed))}"
        message = f"{field}: unknown field; {hint}"
    elif first["type"] == "missing":
        message = f"{field}: is required"
    else:
        reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        message = f"{field}{_shown(first['input'])}: {reason}"
    more = len(problems) - 1
    return message if not more else f"{message} (and {more} more mistake{'s' if more > 1 else ''})"


def _shown(value: object) -> str:
    """The value, unless it is a whole section, which would bury the reason."""
    if isinstance(value, dict | BaseModel):
        return ""
    text = repr(value)
    return f" = {text if len(text) <= 80 else text[:77] + '...'}"


def _follow(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """pydantic's location as the user wrote it, without the tags of unions, and the fields allowed at its end."""
    path: list[str] = []
    here: list[type[BaseModel]] = [model]
    for place, part in enumerate(location):
        fields = [m.model_fields[str(part)] for m in here if str(part) in m.model_fields]
        last = place == len(location) - 1
        tagged = [m for m in here if _is_tag(m, part)]
        if tagged and not fields:
            here = tagged
            continue
        path.append(str(part))
        if not last and not isinstance(part, int):
            here = [inner for field in fields for inner in _models_in(field.annotation)]
    return path, sorted({name for m in here for name in m.model_fields})


def _is_tag(model: type[BaseModel], part: int | str) -> bool:
    kind = model.model_fields.get("kind")
    return kind is not None and part in get_args(kind.annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
