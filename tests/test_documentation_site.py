"""The site of docs/: it is built strictly, is whole in itself, and a link that leads nowhere fails."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from guide import ROOT, local_links
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from site_links import SitePage, read_site

GUIDES = sorted((ROOT / "docs").glob("*.md"))


def build_site(root: Path, site: Path) -> None:
    """As `mkdocs build --strict` does."""
    build(load_config(str(root / "mkdocs.yml"), site_dir=str(site), strict=True))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build_site(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, SitePage]:
    return read_site(site)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of docs/ and what it links to, to be damaged."""
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("docker", "recipes", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_every_guide_is_a_page_that_leads_to_pages_and_anchors_that_are_there(
    site: Path, pages: dict[Path, SitePage]
) -> None:
    assert {site / f"{guide.stem}.html" for guide in GUIDES} <= set(pages)
    dead = []
    for path, page in pages.items():
        for link in page.links:
            if link.startswith(("http:", "https:")) or path.name == "404.html":
                continue
            name, _, anchor = unquote(link).partition("#")
            target = (path.parent / name).resolve() if name and name != "." else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].names):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []


def test_a_browser_loads_nothing_from_elsewhere(site: Path, pages: dict[Path, SitePage]) -> None:
    loaded = {target for page in pages.values() for target in page.loaded}
    assert len(loaded) > 3
    assert {target for target in loaded if "//" in target} == set()
    assert all((site / target).exists() for target in pages[site / "index.html"].loaded)


def test_files_of_the_repository_are_shown(site: Path) -> None:
    shown = site / "files" / "recipes" / "own_loop.py.html"
    assert "targets_from_logits" in shown.read_text()
    assert 'href="files/recipes/own_loop.py.html"' in (site / "training.html").read_text()


DAMAGES = {
    "[a page](nowhere.md)": "nowhere.md",
    "[a heading](format.md#no-such)": "#no-such",
    "[a heading here](#not-here)": "#not-here",
    "[a file](../recipes/nowhere.yaml)": "../recipes/nowhere.yaml",
    "[a path](/format.md)": "/format.md",
}
"""Links that lead nowhere, and what the warning must name."""


def test_what_leads_nowhere_fails_and_is_named(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (copied / "docs" / "method.md").open("a") as guide:
        guide.write("\n\n" + "\n\n".join(DAMAGES) + "\n")
    (copied / "docs" / "forgotten.md").write_text("# In no menu\n")
    with pytest.raises(Abort):
        build_site(copied, copied / "site")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for named in (*DAMAGES.values(), "forgotten.md"):
        assert any(named in warning for warning in warnings), named
    assert len(warnings) == len(DAMAGES) + 1, "the copy was whole before"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"])
def test_links_of_documents_outside_the_site_exist(name: str) -> None:
    document = ROOT / name
    assert [link for link in local_links(document) if not (document.parent / link).exists()] == []


def test_a_dead_link_of_a_document_would_be_found(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("[a](a.md), [b](b.md#c), [d](https://d.example/), [e](#e)\n\n```\n[f](f.md)\n```\n")
    assert local_links(document) == ["a.md", "b.md"]
