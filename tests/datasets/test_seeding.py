"""Draws that belong to names: the same everywhere, unlike between any two names."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dad_datasets.seeding import generator_for

PARTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.integers(-9, 9), max_size=4)

PROGRAM = (
    "from dad_datasets.seeding import generator_for; print(generator_for(7, 'n01/a.jpg', 2, 'view').integers(2**60))"
)


def test_another_process_draws_the_same() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    assert int(said) == generator_for(7, "n01/a.jpg", 2, "view").integers(2**60)


def test_the_stream_is_pinned() -> None:
    # Finished datasets depend on it: a change here is a new format version.
    assert generator_for(7, "n01/a.jpg", 2, "view").integers(2**60) == 591338953755482270


@given(PARTS, PARTS)
def test_streams_are_equal_exactly_where_the_parts_are(one: list[str | int], two: list[str | int]) -> None:
    first, second = generator_for(*one).bytes(16), generator_for(*two).bytes(16)
    assert (first == second) == (one == two)


def test_boundaries_and_types_of_parts_count() -> None:
    names: list[list[str | int]] = [["ab", "c"], ["a", "bc"], ["abc"], ["1"], [1], ["", "1"]]
    draws = {generator_for(*parts).bytes(16) for parts in names}
    assert len(draws) == 6


def test_draws_of_many_names_are_uniform() -> None:
    draws = np.array([generator_for(0, str(number), 0).random() for number in range(2000)])
    counts, _ = np.histogram(draws, bins=10, range=(0, 1))
    assert ((counts - 200) ** 2 / 200).sum() < 27.9  # chi squared of 9 degrees of freedom at 0.001
