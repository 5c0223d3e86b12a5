"""Markdown and YAML of data cards, which nothing that stands in a recipe can break."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

import yaml


def yaml_text(document: Mapping[str, object]) -> str:
    """YAML that is read back as `document`: as people read it where that can be, else with its characters escaped."""
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    # PyYAML writes some line ends of Unicode as they are, and reads them as blanks.
    return text if yaml.safe_load(text) == document else yaml.safe_dump(document, sort_keys=False)


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *([one_line(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def one_line(text: str) -> str:
    """Text that stays on one line and in its cell, and is no markup."""
    return html.escape(re.sub(r"\s+", " ", text), quote=False).replace("|", "\\|")


def fenced(language: str, text: str) -> str:
    """A code block; whatever `text` holds does not end it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
