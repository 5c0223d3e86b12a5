"""What the pages of a built site refer to, read from the HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path


@dataclass
class SitePage(HTMLParser):
    """Targets of a page: links of its text, and what a browser loads by itself. `names` are its anchors."""

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        if "id" in given:
            self.names.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if "src" in given:
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") in {"stylesheet", "preload", "preconnect", "icon"}:
            self.loaded.append(given["href"])


def read_site(folder: Path) -> dict[Path, SitePage]:
    """Every page under `folder`, by its path."""
    pages = {}
    for path in sorted(folder.rglob("*.html")):
        pages[path] = SitePage()
        pages[path].feed(path.read_text(encoding="utf-8"))
    return pages
