"""Bash's brace expansion, as webdataset's URLs use it: `{0000..1023}`, `{a,b}`, nested."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise

from dad_datasets.errors import UserError

MOST_NAMES = 1_000_000  # a mistyped range would otherwise fill the memory

_INTEGERS = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?")
_LETTERS = re.compile(r"([A-Za-z])\.\.([A-Za-z])(?:\.\.-?(\d+))?")
_ESCAPED = re.compile(r"\\(.)")
_ALPHABET = string.ascii_uppercase + string.ascii_lowercase


def expand_braces(pattern: str) -> list[str]:
    """The names that `pattern` stands for, in bash's order; a backslash makes the next character literal.

    UserError for unbalanced braces and for more than a million names.
    """
    names = [_ESCAPED.sub(r"\1", text) for text in islice(_expand(pattern, pattern), MOST_NAMES + 1)]
    if len(names) > MOST_NAMES:
        raise UserError(f"source {pattern}: the braces stand for more than {MOST_NAMES:,} names")
    return names


def _expand(text: str, pattern: str) -> Iterator[str]:
    opening, commas, closing = _outermost(text, pattern)
    if opening is None:
        yield text
        return
    inner = text[opening + 1 : closing]
    for middle in _alternatives(inner, commas, pattern):
        for rest in _expand(text[closing + 1 :], pattern):
            yield text[:opening] + middle + rest


def _outermost(text: str, pattern: str) -> tuple[int | None, list[int], int]:
    """The first outermost pair of braces, with the commas directly in it (counted from behind the opening brace)."""
    opening: int | None = None
    commas: list[int] = []
    depth = position = 0
    while position < len(text):
        letter = text[position]
        if letter == "{":
            opening = position if opening is None else opening
            depth += 1
        elif letter == "}":
            depth -= 1
            if depth == 0 and opening is not None:
                return opening, commas, position
            if depth < 0:
                break
        elif letter == "," and depth == 1 and opening is not None:
            commas.append(position - opening - 1)
        position += 2 if letter == "\\" else 1
    if depth:
        raise UserError(f"source {pattern}: the braces are not balanced")
    return None, [], 0


def _alternatives(inner: str, commas: list[int], pattern: str) -> Iterable[str]:
    if found := _INTEGERS.fullmatch(inner):
        return _integers(*found.groups())
    if found := _LETTERS.fullmatch(inner):
        first, last = (_ALPHABET.index(letter) for letter in found.groups()[:2])
        return (_ALPHABET[index] for index in _steps(first, last, found[3]))
    if commas:
        bounds = [-1, *commas, len(inner)]
        parts = [inner[left + 1 : right] for left, right in pairwise(bounds)]
        return (name for part in parts for name in _expand(part, pattern))
    return (f"{{{name}}}" for name in _expand(inner, pattern))  # neither range nor list: the braces are literal


def _integers(first: str, last: str, step: str | None) -> Iterator[str]:
    padded = any(number.startswith(("0", "-0")) and number not in ("0", "-0") for number in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return (f"{number:0{width}d}" for number in _steps(int(first), int(last), step))


def _steps(first: int, last: int, step: str | None) -> range:
    stride = int(step or 1) or 1
    return range(first, last + 1, stride) if first <= last else range(first, last - 1, -stride)
