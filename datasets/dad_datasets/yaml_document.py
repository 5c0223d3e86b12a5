"""YAML text as plain values: nothing in it is run, multiplied without bound, or silently overwritten."""

from __future__ import annotations

import re
from collections.abc import Hashable

import yaml

LARGEST_DOCUMENT_BYTES = 2**20
"""Of a document as it stands, and with every alias written out; the names of 20,000 classes are half of it."""

LONGEST_NUMBER = 100
"""Characters. Turning a text of a million digits into a number takes minutes."""

# What no text file holds, but escapes in quotes can make: half characters, and what moves a terminal's cursor.
_NO_TEXT = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

_PREFIX = "tag:yaml.org,2002:"
_MERGE, _NUMBERS = f"{_PREFIX}merge", (f"{_PREFIX}int", f"{_PREFIX}float")


class YamlError(ValueError):
    """Text that is not accepted as YAML; the message is one line and names the line where it is known."""


def read_yaml(document: bytes) -> object:
    """The value of one YAML document in UTF-8: mappings, lists, texts, numbers, true, false, null, dates.

    Aliases and merge keys (`<<`) work. YamlError for tags, keys given twice, an alias within what it stands for, a
    document over LARGEST_DOCUMENT_BYTES, control characters, and what is not YAML.
    """
    if len(document) > LARGEST_DOCUMENT_BYTES:
        raise YamlError(f"has more than {LARGEST_DOCUMENT_BYTES:,} bytes")
    try:
        return yaml.load(document.decode(), Loader=_PlainLoader)  # a SafeLoader: it makes no objects
    except UnicodeDecodeError:
        raise YamlError("cannot be read: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1} " if mark is not None else ""
        problem = " ".join((error.problem or error.context or "").split())
        raise YamlError(f"{where}{problem}" if problem else f"{where}not valid YAML") from None
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date such as 2026-99-99
        raise YamlError("not valid YAML") from None


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader that looks at the whole document before it makes values of it."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # so in its stubs
        tag: str | None = getattr(event, "tag", None)
        if tag is not None:
            raise _mistake(f"the tag {_short(tag)} is refused: a recipe holds plain values", event)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            self._check(node, above=[], known={})
        return node

    def _check(self, node: yaml.Node, above: list[yaml.Node], known: dict[yaml.Node, int]) -> int:
        """Characters in `node` with every alias written out."""
        if node in above:
            raise _mistake("an alias stands within what it is the name of", node)
        if node not in known:
            size = 1
            if isinstance(node, yaml.ScalarNode):
                _check_scalar(node)
                size += len(node.value)
            elif isinstance(node, yaml.MappingNode):
                self._check_keys(node)
                size += sum(self._check(part, [*above, node], known) for pair in node.value for part in pair)
            else:
                size += sum(self._check(part, [*above, node], known) for part in node.value)
            if size > LARGEST_DOCUMENT_BYTES:
                raise _mistake(f"with its aliases written out more than {LARGEST_DOCUMENT_BYTES:,} bytes", node)
            known[node] = size
        return known[node]

    def _check_keys(self, node: yaml.MappingNode) -> None:
        """YAML would silently keep the last of two equal keys."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _mistake("a list or a mapping cannot be a key", key_node)
            if key_node.tag == _MERGE and "<<" in seen:
                raise _mistake("the key '<<' stands twice: give it a list", key_node)
            _check_scalar(key_node)
            key = "<<" if key_node.tag == _MERGE else self.construct_object(key_node)
            if key in seen:
                raise _mistake(f"the key {_short(key)} stands twice", key_node)
            seen.add(key)


def _check_scalar(node: yaml.ScalarNode) -> None:
    if _NO_TEXT.search(node.value):
        raise _mistake("a control character or half of a character stands in a text", node)
    if node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:
        raise _mistake(f"a number of {len(node.value):,} characters", node)


def _mistake(problem: str, place: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    mark = place.start_mark
    assert isinstance(mark, yaml.Mark)  # not the one of libyaml, which this loader does not use
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_PlainLoader.add_implicit_resolver(  # YAML 1.1 asks for a point and a signed exponent
    f"{_PREFIX}float", re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)
for _special in (f"{_PREFIX}value", _MERGE):  # `=` and `<<` elsewhere than as keys: texts
    _PlainLoader.add_constructor(_special, lambda loader, node: node.value)
