"""Brace expansion against the library that webdataset uses."""

from __future__ import annotations

import re
from itertools import accumulate

import pytest
from braceexpand import braceexpand
from hypothesis import assume, example, given
from hypothesis import strategies as st

from dad_datasets.errors import UserError
from dad_datasets.sources import brace_ranges
from dad_datasets.sources.brace_ranges import expand_braces

PIECES = st.sampled_from(["{", "}", ",", "..", "0", "1", "09", "-2", "a", "c", "Z", "\\{", "/x", "train-"])


def closes_too_early(pattern: str) -> bool:
    """Whether some "}" has no "{" before it."""
    braces = [{"{": 1, "}": -1}.get(letter, 0) for letter in re.sub(r"\\.", "", pattern)]
    return min(accumulate(braces), default=0) < 0


def test_timm_range() -> None:
    names = expand_braces("imagenet1k-train-{0000..1023}.tar")
    assert len(names) == 1024
    assert (names[0], names[-1]) == ("imagenet1k-train-0000.tar", "imagenet1k-train-1023.tar")


@given(st.lists(PIECES, max_size=12).map("".join))
@example("{9..11}{b,{0..1}}")
@example("{10..0..3}-{a..e..2}")
@example("{a,b}{}{c}")
@example("\\{a,b}")
def test_expands_like_the_library(pattern: str) -> None:
    assume(not closes_too_early(pattern))  # the library takes "}{" for balanced
    try:
        expected = list(braceexpand(pattern))
    except ValueError:
        with pytest.raises(UserError, match="not balanced"):
            expand_braces(pattern)
        return
    assert expand_braces(pattern) == expected


def test_endless_ranges_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brace_ranges, "MOST_NAMES", 1000)
    with pytest.raises(UserError, match="more than 1,000 names"):
        expand_braces("{0..9999999999}.tar")
