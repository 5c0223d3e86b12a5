"""Texts from elsewhere (file names, class names, reasons in an index) on their way to a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` on one line, what is no visible character escaped: terminals obey some, and a name may hold any."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
