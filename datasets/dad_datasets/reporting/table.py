"""Tables, lists of facts and key figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dad_datasets.reporting.markup import Child, Markup, element


def table(caption: str, headings: Sequence[Child], rows: Sequence[Sequence[Child]], *, texts: int = 1) -> Markup:
    """A table in a box of its own, which scrolls where it is wider than the page.

    The first `texts` columns are text, the others numbers; the first names the row.
    """
    head = [
        element("th", heading, scope="col", class_=None if place < texts else "number")
        for place, heading in enumerate(headings)
    ]
    body = []
    for row in rows:
        assert len(row) == len(headings), (row, headings)
        cells = [element("td", cell, class_=None if place < texts else "number") for place, cell in enumerate(row)]
        body.append(element("tr", element("th", row[0], scope="row"), *cells[1:]))
    content = element("table", element("thead", element("tr", *head)), element("tbody", *body), aria_label=caption)
    # With a keyboard, too, the box must scroll. The caption stands outside it, where it wraps.
    box = element("div", content, class_="scroll", tabindex=0, role="region", aria_label=caption)
    return element("figure", element("figcaption", caption), box, class_="table")


def facts(pairs: Mapping[str, Child]) -> Markup:
    """Names and what they stand for."""
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in pairs.items()),
        class_="facts",
    )


def key_figures(pairs: Mapping[str, str]) -> Markup:
    """The few numbers that a reader looks for first: what is counted, and how many."""
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in pairs.items()),
        class_="key",
    )


def folded(summary: str, *content: Child) -> Markup:
    """What few want to read, behind a line to open."""
    return element("details", element("summary", summary), *content)
