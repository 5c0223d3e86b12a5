"""Parts of the sentences about a wrong name and about weights that do not fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence


def close_names(wrong: str, known: Sequence[str]) -> str:
    """`; close names: ...` with up to three of `known` that resemble `wrong`, or nothing."""
    close = difflib.get_close_matches(wrong, known, n=3, cutoff=0.5)
    return f"; close names: {', '.join(close)}" if close else ""


def mismatched_keys(message: str) -> str:
    """Up to three of the keys that torch's `load_state_dict` complains about, or nothing for another message."""
    if "loading state_dict" not in message:
        return ""
    found = re.findall(r'"([^"]+)"|size mismatch for ([^:\s]+):', message)
    return up_to_three([quoted or mismatch for quoted, mismatch in found])


def up_to_three(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
