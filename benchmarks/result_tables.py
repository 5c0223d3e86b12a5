"""Tables in Markdown, and documents with a part that is made from results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table_lines(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int | None = None) -> list[str]:
    """The columns from the place `numbers_from` on stand to the right."""
    left = len(columns) if numbers_from is None else numbers_from
    rules = ["---"] * left + ["---:"] * (len(columns) - left)
    return [f"| {' | '.join(cells)} |" for cells in (columns, rules, *rows)]


def with_part(document: str, name: str, part: str) -> str:
    """`document` with what stands between the marks `name` replaced by `part`."""
    marks = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, begin, rest = document.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    assert begin, f"README.md has no {marks[0]}"
    assert end, f"README.md has no {marks[1]}"
    return f"{before}{begin}\n{part}\n{end}{after}"
