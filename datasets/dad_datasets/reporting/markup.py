"""HTML that cannot be broken by what stands in it: every plain string is escaped, and every tag is closed."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

VOID = frozenset({"br", "img", "meta"})

_UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What neither HTML nor XML may hold, escaped or not."""


@dataclass(frozen=True)
class Markup:
    """Finished HTML. Only `element`, `joined` and the page's own constants make it."""

    text: str


Child = Markup | str
"""A string is text, never markup."""


def escaped(text: str) -> str:
    """`text` as it may stand between tags and inside quoted attributes."""
    return html.escape(_UNPRINTABLE.sub("\ufffd", text), quote=True)


def element(tag: str, *children: Child, **attributes: str | int | float | None) -> Markup:
    """An element, well-formed as XML too. Attributes: `class_` is class, `aria_label` aria-label; None: left out."""
    assert not (tag in VOID and children), tag
    shown = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escaped(_plain(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in VOID:
        return Markup(f"<{tag}{shown} />")
    return Markup(f"<{tag}{shown}>{joined(children).text}</{tag}>")


def joined(children: Iterable[Child]) -> Markup:
    """Children one after another."""
    return Markup("".join(child.text if isinstance(child, Markup) else escaped(child) for child in children))


def _plain(value: str | int | float) -> str:
    # Coordinates to a hundredth of a pixel: shorter, and the same on every machine.
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
