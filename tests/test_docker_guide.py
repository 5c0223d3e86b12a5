"""What docker/ and docs/docker.md say of the rest is true: versions, files, commands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from dockerfile import pins

from dad_datasets.cli import build_app

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GUIDE = ROOT / "docs" / "docker.md"
SUBCOMMANDS = "train|generate|sweep|inspect|verify|evaluate"


def test_versions_agree_with_the_project_s() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text()
    assert re.findall(r"^ARG VERSION=(.*)$", dockerfile, re.MULTILINE) == [PROJECT["version"]]
    named = [
        version
        for path in [*DOCKER.glob("*.yaml"), GUIDE]
        for version in re.findall(r"dad-(?:pipeline|trainer):(?:\$\{DAD_VERSION:-)?([\w.]+)", path.read_text())
    ]
    assert len(named) >= 5
    assert set(named) == {PROJECT["version"]}
    ray_version = yaml.safe_load((DOCKER / "kuberay-rayjob.yaml").read_text())["spec"]["rayClusterSpec"]["rayVersion"]
    assert ray_version == pins(ROOT / "constraints.txt")["ray"]


def dad_commands() -> list[tuple[str, list[str]]]:
    """Every `dad SUBCOMMAND ...` in docker/ and its guide, with where it stands."""
    job = yaml.safe_load((DOCKER / "train-job.yaml").read_text())["spec"]["template"]["spec"]["containers"][0]["args"]
    found = [("train-job.yaml", job[job.index("dad") + 1 :])]
    for path in [*DOCKER.glob("*.yaml"), *DOCKER.glob("expected/*.json"), GUIDE]:
        commands = re.findall(rf"\bdad ((?:{SUBCOMMANDS})\b[^\n`'\"|;]*)", path.read_text())
        found += [(path.name, command.split("  #")[0].split()) for command in commands if " --" in command]
    return found


@pytest.mark.parametrize(("where", "arguments"), dad_commands(), ids=str)
def test_every_dad_command_is_one(where: str, arguments: list[str]) -> None:
    group = typer.main.get_command(build_app())
    command = group.commands[arguments[0]]  # type: ignore[attr-defined]
    command.make_context(arguments[0], list(arguments[1:]))  # parses; raises where an option is not one
    for argument in arguments:
        if argument.startswith("recipes/"):
            assert (ROOT / argument).exists(), f"{where}: {argument}"


def test_the_guide_names_files_that_exist() -> None:
    text = GUIDE.read_text()
    named = set(re.findall(r"\bdocker/[\w./-]+\.\w+", text))
    assert len(named) >= 8
    for name in named - set(re.findall(r"docker/expected/(?:NAME|mine)\.json", text)):
        assert (ROOT / name).exists(), name
    for path in DOCKER.glob("*.*"):
        for name in re.findall(r"docker/[\w-]+\.(?:sh|yaml|py)\b", path.read_text()):
            assert (ROOT / name).exists(), f"{path.name}: {name}"
