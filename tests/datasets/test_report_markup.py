"""Whatever stands in the data, a page stays well-formed and shows it as text."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from html_page import checked_page, text_of
from hypothesis import given
from hypothesis import strategies as st

from dad_datasets.reporting.markup import Markup, element, joined
from dad_datasets.reporting.page import Section, page
from dad_datasets.reporting.table import facts, folded, key_figures, table

HOSTILE = "<script>alert(1)</script> \"quoted\" & 'so' <b>bold</b> &amp; ]]> --> \x00\x1b\ud800"


def as_shown(text: str) -> str:
    """What is left of `text` once what no document may hold is replaced, and line ends are read as XML reads them."""
    valid = "".join(
        c if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c not in "\ufffe\uffff" else "\ufffd" for c in text
    )
    return valid.replace("\r\n", "\n").replace("\r", "\n")


@given(st.text(st.characters(), max_size=40))
def test_any_text_comes_back_as_text(text: str) -> None:
    parsed = ElementTree.fromstring(element("p", text, title=text.replace("\n", " ")).text)
    assert (parsed.text or "") == as_shown(text)
    assert not list(parsed)


def test_hostile_text_is_text_wherever_it_stands() -> None:
    content = [
        facts({HOSTILE: HOSTILE}),
        key_figures({HOSTILE: HOSTILE}),
        folded(HOSTILE, element("pre", HOSTILE)),
        table(HOSTILE, (HOSTILE, HOSTILE), [(HOSTILE, HOSTILE)]),
    ]
    root = checked_page(page(HOSTILE, HOSTILE, HOSTILE, [], [Section(title="One", content=content)]))
    assert text_of(root).count(as_shown(HOSTILE)) == 15
    assert list(root.iter("b")) == []


def test_attributes() -> None:
    assert element("a", "x", href="#y", class_="z", aria_label="w", title=None).text == (
        '<a href="#y" class="z" aria-label="w">x</a>'
    )
    assert element("br").text == "<br />"
    assert element("p", x=1.0, y=2.125, z=1 / 3, w=-0.001).text == '<p x="1" y="2.12" z="0.33" w="-0"></p>'
    assert joined(["<", Markup("<br />")]).text == "&lt;<br />"


def test_an_empty_element_has_no_content() -> None:
    with pytest.raises(AssertionError):
        element("img", "x")


def test_a_table_has_as_many_cells_as_headings() -> None:
    with pytest.raises(AssertionError):
        table("caption", ("a", "b"), [("1",)])


@pytest.mark.parametrize(
    "broken",
    [
        '<script src="x.js"></script>',
        '<a href="https://example.org/">there</a>',
        '<img src="picture.png" alt="a" />',
        '<img src="data:image/webp;base64," />',
        '<p onclick="x()">text</p>',
        '<p id="one">text</p>',
        "<h4>text</h4>",
        "<p>text",
        '<svg viewBox="0 0 1 1"></svg>',
        "<style>@import 'x.css';</style>",
    ],
)
def test_the_check_sees_what_is_wrong(broken: str) -> None:
    fine = Section(title="One", content=[element("p", "text")])
    checked_page(page("title", "kind", "lead", [], [fine]))
    with pytest.raises((AssertionError, ElementTree.ParseError)):
        checked_page(page("title", "kind", "lead", [], [Section(title="One", content=[Markup(broken)])]))
