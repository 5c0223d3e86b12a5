"""A guide's blocks of code: which are files, which are commands, and what a `dad` command in them asks for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND_LANGUAGES = ("", "bash", "sh", "console")
SEPARATORS = frozenset({"&&", "||", ";", "|"})

_FENCE = re.compile(r"^ *(?P<fence>`{3,})(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^ *(?P=fence) *$", re.M | re.S)
_FILE_NAME = re.compile(r"# ([\w./-]+\.\w+)$")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is where its text begins, counted from 1."""

    guide: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.guide.name}:{self.line}"

    @property
    def file_name(self) -> str | None:
        """The file that a reader saves it as: named by a comment, the first line."""
        found = _FILE_NAME.match(self.text.partition("\n")[0])
        return found[1] if found else None

    def commands(self) -> list[str]:
        """The commands of a block of them: lines, with those that end in a backslash joined to the next."""
        text = re.sub(r"\\\n\s*", "", self.text)
        lines = [line.strip() for line in text.splitlines()]
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line and not line.startswith("#")]


def read_blocks(guide: Path) -> list[Block]:
    """Every fenced block of a Markdown file, in order."""
    text = guide.read_text(encoding="utf-8")
    return [
        Block(guide, text.count("\n", 0, match.start("text")) + 1, match["language"], match["text"])
        for match in _FENCE.finditer(text)
    ]


def programs(command: str) -> list[str]:
    """The first word of each of the commands that a line strings together."""
    words = _words(command)
    starts = [0, *(number + 1 for number, word in enumerate(words) if word in SEPARATORS)]
    return [words[start] for start in starts if start < len(words)]


def dad_calls(command: str) -> Iterator[list[str]]:
    """The arguments of each `dad` that a line runs, under torchrun, in a container or in a quoted line as well."""
    words = _words(command)
    for number, word in enumerate(words):
        if word == "dad":
            rest = words[number + 1 :]
            ends = [place for place, other in enumerate(rest) if other in SEPARATORS]
            yield rest[: ends[0]] if ends else rest
        elif " " in word:
            yield from dad_calls(word)


def _words(command: str) -> list[str]:
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";|&")
    lexer.whitespace_split = True
    return list(lexer)


def local_links(document: Path) -> list[str]:
    """The targets of a Markdown file's links that are no addresses, without their anchors."""
    prose = _FENCE.sub("", document.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
