"""The teacher's accuracy class by class, before and after the attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dad_datasets.manifest import Manifest
from dad_datasets.reporting.class_counts import ClassCounts
from dad_datasets.reporting.markup import Child, Markup, element
from dad_datasets.reporting.page import Section
from dad_datasets.reporting.pictures_section import class_name
from dad_datasets.reporting.table import folded, table

FIRST = 20
"""Classes shown at once; the others are behind a line to open."""

MOST = 2000
"""Classes shown in all, so that the page stays small."""

_LEFT, _RIGHT, _MIDDLE = 4.0, 124.0, 7.0


@dataclass(frozen=True, kw_only=True)
class _ClassRow:
    name: str
    views: int
    clean: float
    adversarial: float


def classes_section(manifest: Manifest, classes: ClassCounts) -> Section:
    """Classes in the order of what the attack cost them, the dearest first."""
    rows = [
        _ClassRow(name=class_name(manifest, label), views=views, clean=clean / views, adversarial=adversarial / views)
        for label, views, clean, adversarial in classes.table()
    ]
    rows.sort(key=lambda row: row.adversarial - row.clean)
    note = (
        "Over the attacked views. The bar goes from the clean accuracy (dot) to the adversarial one (square), "
        "between 0 and 100 %; the classes that lost most come first."
    )
    content: list[Child] = [element("p", note, class_="note"), _table(rows[:FIRST], "Teacher accuracy by class, in %")]
    if rest := rows[FIRST:MOST]:
        more = f"{len(rest):,} further classes" + (f" of {len(rows) - FIRST:,}" if len(rows) > MOST else "")
        content.append(folded(more, _table(rest, f"Teacher accuracy of {more}, in %")))
    return Section(title="Accuracy by class", content=content)


def _table(rows: Sequence[_ClassRow], caption: str) -> Markup:
    headings = ("class", "views", "clean", "adversarial", "change", element("span", "from clean to adversarial"))
    cells = [
        (
            row.name,
            f"{row.views:,}",
            f"{100 * row.clean:.1f}",
            f"{100 * row.adversarial:.1f}",
            f"{100 * (row.adversarial - row.clean):+.1f}".replace("-", "−"),
            _bar(row),
        )
        for row in rows
    ]
    return table(caption, headings, cells)


def _bar(row: _ClassRow) -> Markup:
    """Decoration: the numbers stand beside it."""
    clean, adversarial = (_LEFT + share * (_RIGHT - _LEFT) for share in (row.clean, row.adversarial))
    kind = "loss" if adversarial < clean else "gain"
    return element(
        "svg",
        element("line", x1=_LEFT, x2=_RIGHT, y1=_MIDDLE, y2=_MIDDLE, class_="track"),
        element("line", x1=clean, x2=adversarial, y1=_MIDDLE, y2=_MIDDLE, class_=kind),
        element("circle", cx=clean, cy=_MIDDLE, r=4, class_="mark s0"),
        element("rect", x=adversarial - 3.5, y=_MIDDLE - 3.5, width=7, height=7, class_="mark s1"),
        viewBox="0 0 128 14",
        aria_hidden="true",
    )
