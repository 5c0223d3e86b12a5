"""Where a command may write: never among what it reads."""

from __future__ import annotations

from pathlib import Path

from dad_datasets.errors import UserError


def refuse_out_inside_source(source: str, out: str) -> None:
    """UserError where the output would land in a local source folder, and so become part of the source."""
    if "://" in source or "://" in out:
        return
    source_path, out_path = Path(source).resolve(), Path(out).resolve()
    if source_path.is_dir() and out_path.is_relative_to(source_path):
        place = "is" if out_path == source_path else f"{out} is inside"
        raise UserError(f"the output directory {place} the source {source}: choose one outside")
