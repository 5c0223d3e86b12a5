"""The requirements of some extras of a pyproject.toml, one a line; extras that name extras of the project are followed.

    python docker/requirements.py pyproject.toml trainer s3

pip cannot install a project's dependencies without the project, and an image wants them in a layer below the sources.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(\[(?P<extras>[^\]]*)\])?")


def expand(name: str, optional: Mapping[str, Sequence[str]], extras: Sequence[str]) -> Iterator[str]:
    """The requirements of `extras` of the project `name`. KeyError where it has no such extra."""
    for extra in extras:
        for requirement in optional[extra]:
            parts = REQUIREMENT.match(requirement)
            assert parts is not None, requirement
            if parts["name"] == name:
                yield from expand(name, optional, [own.strip() for own in parts["extras"].split(",")])
            else:
                yield requirement


def requirements(pyproject: Path, extras: Sequence[str]) -> list[str]:
    """What the project needs, with `extras`, each once, sorted."""
    project = tomllib.loads(pyproject.read_text())["project"]
    optional = expand(project["name"], project["optional-dependencies"], extras)
    return sorted({*project["dependencies"], *optional})


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]), sys.argv[2:])))
