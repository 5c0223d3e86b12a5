"""The page round the sections: one file without script that loads nothing, readable on a phone, light and dark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dad_datasets.reporting.markup import Child, Markup, element, joined

_STYLE = Path(__file__).with_name("page.css")

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Browsers then refuse scripts and whatever comes from elsewhere, should a page ever ask for it."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page under its own heading. Titles of one page differ."""

    title: str
    content: Sequence[Child]

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def page(title: str, kind: str, lead: str, opening: Sequence[Child], sections: Sequence[Section]) -> bytes:
    """The whole document as UTF-8. `kind` stands small above the title, `lead` is a sentence or two below it."""
    style = Markup(f"<style>{_STYLE.read_text(encoding='utf-8')}</style>")
    links = [element("a", section.title, href=f"#{section.anchor}") for section in sections]
    document = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=POLICY),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", title),
            style,
        ),
        element(
            "body",
            element(
                "header",
                element("p", kind, class_="kind"),
                element("h1", title),
                element("p", lead, class_="lead"),
                *opening,
                element("nav", *links, aria_label="Sections"),
            ),
            element("main", *(_shown(section) for section in sections)),
        ),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{joined([document]).text}\n".encode()


def _shown(section: Section) -> Markup:
    return element("section", element("h2", section.title), *section.content, id=section.anchor)
