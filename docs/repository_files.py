"""A hook of mkdocs: files of the repository that a page links to become pages of the site.

A link such as `../recipes/own_loop.py` is right where the repository is read in place, on its hosting site or on a
disk. The site is built from docs/ alone, so there the link would lead nowhere. Each file linked in this way is
therefore shown on a page of its own, without a place in the navigation, and the link is turned to it. A link to a file
that is not there stays as it is, and mkdocs warns of it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

OUTSIDE = re.compile(r"\]\((\.\./[^)#\s]+)\)")
"""The target of a link that leaves its folder; all pages stand in docs/ itself."""

LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".sh": "bash", ".toml": "toml", ".md": "markdown"}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each file of the repository that a page names."""
    root = Path(config.docs_dir).parent
    for page in list(files.documentation_pages()):
        for target in OUTSIDE.findall(page.content_string):
            name = posixpath.normpath(posixpath.join("docs", target))
            address = _address(name)
            if (root / name).is_file() and address not in files.src_uris:
                files.append(_shown(root / name, name, address, config))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links out of docs/ to these pages."""

    def turned(link: re.Match[str]) -> str:
        address = _address(posixpath.normpath(posixpath.join("docs", link[1])))
        return f"]({address})" if address in files.src_uris else link[0]

    return OUTSIDE.sub(turned, markdown)


def _address(name: str) -> str:
    return f"files/{name}.md"


def _shown(path: Path, name: str, address: str, config: MkDocsConfig) -> File:
    """A page that holds the file's text. The fence is longer than any in it."""
    language = LANGUAGES.get(path.suffix, "text")
    text = path.read_text(encoding="utf-8").rstrip("\n")
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
    file = File.generated(config, address, content=f"# {name}\n\n{fence}{language}\n{text}\n{fence}\n")
    file.inclusion = InclusionLevel.NOT_IN_NAV
    return file
