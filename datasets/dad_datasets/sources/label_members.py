"""Labels as WebDataset tars carry them: a `.cls` member, or a field of the `.json` member."""

from __future__ import annotations

import json
import re

LARGEST_MEMBER_BYTES = 2**20
_INTEGER = re.compile(rb"[+-]?[0-9]{1,18}")


def read_cls(member: bytes) -> int | None:
    """The ASCII integer in a `.cls` member, or None where it is something else."""
    text = member.strip()
    return int(text) if _INTEGER.fullmatch(text) else None


def read_json_label(member: bytes) -> int | None:
    """The integer field `cls` or, without it, `label` of a `.json` member, or None."""
    try:
        fields = json.loads(member)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    label = fields.get("cls", fields.get("label"))
    return label if isinstance(label, int) and not isinstance(label, bool) else None
