"""Names inside a shard: source keys made safe for tar members, and the view's number behind them."""

from __future__ import annotations

from urllib.parse import quote, unquote

from dad_datasets.errors import UserError
from dad_datasets.mistakes import shortened

MAX_MEMBER_NAME_BYTES = 100
"""What every tar dialect holds in its header; longer names would need extension records that not all readers know."""

LONGEST_SUFFIX = ".teacher_rest.npy"


def encode_key(source_key: str) -> str:
    """`source_key` percent-encoded: without dots (readers split there) and slashes. See `decode_key`."""
    return quote(source_key, safe="").replace(".", "%2E").replace("~", "%7E")


def decode_key(key: str) -> str:
    """The inverse of `encode_key`."""
    return unquote(key, errors="strict")


def view_key(source_key: str, view: int) -> str:
    """The key of one view's record: `<encoded source key>-v<view>`."""
    return f"{encode_key(source_key)}-v{view}"


def check_member_name(key: str) -> None:
    """UserError where a member of `key` could need more than MAX_MEMBER_NAME_BYTES bytes (the key is ASCII)."""
    longest = len(key) + len(LONGEST_SUFFIX)
    if longest > MAX_MEMBER_NAME_BYTES:
        raise UserError(
            f"the key {shortened(repr(key))} would give a tar member name of {longest} bytes; "
            f"at most {MAX_MEMBER_NAME_BYTES} are allowed: shorten the image's path or name"
        )
