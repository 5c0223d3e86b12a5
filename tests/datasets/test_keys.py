"""Keys: reversible, safe for tar readers, short enough."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dad_datasets.errors import UserError
from dad_datasets.keys import MAX_MEMBER_NAME_BYTES, check_member_name, decode_key, encode_key, view_key

SOURCE_KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(SOURCE_KEYS)
def test_keys_come_back_and_hold_only_safe_characters(source_key: str) -> None:
    key = encode_key(source_key)
    assert re.fullmatch(r"[A-Za-z0-9_%-]*", key)
    assert decode_key(key) == source_key


def test_a_path_stays_readable() -> None:
    assert view_key("n01440764/a b.JPEG", 3) == "n01440764%2Fa%20b%2EJPEG-v3"


def test_keys_of_views_never_collide() -> None:
    pairs = list(product(["a", "a-v1", "a-v1-v1", "a-v", "a-"], range(12)))
    assert len({view_key(*pair) for pair in pairs}) == len(pairs)


def test_bytes_that_are_no_key_are_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        decode_key("%FF")


def test_longest_member_name() -> None:
    longest = "k" * (MAX_MEMBER_NAME_BYTES - len(".teacher_rest.npy"))
    check_member_name(longest)
    with pytest.raises(UserError, match="a tar member name of 101 bytes; at most 100 are allowed"):
        check_member_name(longest + "k")
