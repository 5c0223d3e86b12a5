"""Bytes and seconds as people say them."""

from __future__ import annotations


def size(num_bytes: float) -> str:
    """In the largest unit of 1000 bytes that leaves at least one: 1.5 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 999.5:  # rounded to three digits it would be the next unit's
            return f"{num_bytes:.0f} bytes" if unit == "bytes" else f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB" if num_bytes < 999.5 else f"{num_bytes:,.0f} TB"


def duration(seconds: float) -> str:
    """To the second from a minute on, to the minute from an hour on: 1 h 7 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60} s"
    return f"{minutes // 60:,} h {minutes % 60} min"
