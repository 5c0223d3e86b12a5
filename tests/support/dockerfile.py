"""A Dockerfile as stages of instructions, and a file of constraints as pins: enough to check ours."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """A stage: its name, what it starts from, and its instructions in order."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def arguments(self, instruction: str) -> list[str]:
        """What follows each `instruction`."""
        return [rest for name, rest in self.instructions if name == instruction]

    def copies(self) -> Iterator[tuple[str | None, list[str]]]:
        """Each COPY: the stage after --from, and the sources."""
        for rest in self.arguments("COPY"):
            words = shlex.split(rest)
            origin = next((word.removeprefix("--from=") for word in words if word.startswith("--from=")), None)
            yield origin, [word for word in words[:-1] if not word.startswith("--")]


def stages(text: str) -> dict[str, Stage]:
    """The stages by name, in order; instructions before the first FROM are left out."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found: dict[str, Stage] = {}
    for instruction in lines.replace("\\\n", " ").splitlines():
        name, _, rest = instruction.strip().partition(" ")
        if match := re.fullmatch(r"(\S+) AS (\S+)", rest if name == "FROM" else ""):
            found[match[2]] = Stage(name=match[2], base=match[1])
        elif name and found:
            found[next(reversed(found))].instructions.append((name, rest.strip()))
    return found


def lineage(all_stages: dict[str, Stage], name: str) -> list[Stage]:
    """The stage and those under it, the nearest first."""
    stage = all_stages[name]
    return [stage, *(lineage(all_stages, stage.base) if stage.base in all_stages else [])]


def pins(path: Path) -> dict[str, str]:
    """Name and version of each line of a constraints file."""
    return dict(line.split("==") for line in path.read_text().splitlines() if not line.startswith("#"))
