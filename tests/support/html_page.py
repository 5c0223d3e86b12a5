"""A report read back by a parser that forgives nothing, and checked for what every page must keep to."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from dad_datasets.reporting.page import POLICY

LARGEST_BYTES = 3_000_000


def read_page(path: Path) -> ElementTree.Element:
    """The page at `path`, which is checked by `checked_page`."""
    return checked_page(path.read_bytes())


def checked_page(content: bytes) -> ElementTree.Element:
    """The root of a page that is well-formed, small, whole in itself, without script, and names what it shows."""
    assert len(content) < LARGEST_BYTES
    assert content.startswith(b"<!DOCTYPE html>\n")
    root = ElementTree.fromstring(content)
    assert root.get("lang") == "en"
    policies = [meta.get("content") for meta in root.iter("meta") if meta.get("http-equiv")]
    assert policies == [POLICY]
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids), ids
    for element in root.iter():
        _check(element, ids)
    assert len(list(root.iter("h1"))) == 1
    levels = [int(element.tag[1]) for element in root.iter() if re.fullmatch("h[1-6]", element.tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    return root


def text_of(element: ElementTree.Element) -> str:
    """All text below `element`."""
    return "".join(element.itertext())


def section(root: ElementTree.Element, title: str) -> ElementTree.Element:
    """The section under the heading `title`."""
    found = [each for each in root.iter("section") if text_of(each[0]) == title]
    assert len(found) == 1, [text_of(each[0]) for each in root.iter("section")]
    return found[0]


def cells(table: ElementTree.Element) -> list[list[str]]:
    """The rows of a table, its headings first."""
    return [[text_of(cell) for cell in row] for row in table.iter("tr")]


def captions(root: ElementTree.Element) -> list[str]:
    """The titles of the charts."""
    charts = [figure for figure in root.iter("figure") if figure.get("class") == "chart"]
    return [text_of(chart[0][0]) for chart in charts]


def _check(element: ElementTree.Element, ids: list[str | None]) -> None:
    assert element.tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}, element.tag
    for name, value in element.attrib.items():
        assert not name.startswith("on"), name
        if name in {"src", "href", "srcset", "action", "data", "poster", "style"}:
            is_picture = element.tag == "img" and value.startswith("data:image/")
            is_here = element.tag == "a" and value.startswith("#") and value[1:] in ids
            assert is_picture or is_here, (element.tag, name, value[:80])
    if element.tag == "style":
        assert "url(" not in text_of(element)
        assert "@import" not in text_of(element)
    if element.tag == "img":
        assert element.get("alt")
    if element.tag == "svg":
        assert element.get("aria-label") or element.get("aria-hidden") == "true"
    if element.tag == "table":
        rows = list(element.iter("tr"))
        assert all(cell.get("scope") == "col" and text_of(cell) for cell in rows[0])
        assert all(row[0].get("scope") == "row" and len(row) == len(rows[0]) for row in rows[1:])
