"""Every block of code in the guides and in the README: run, checked, or listed here with the reason why not.

A block of commands has the language `bash` or none; a block whose first line is a comment with a file's name is that
file. Each `dad` command is parsed by the program, and its recipe loaded; other programs stand in NOT_RUN. The commands
of RUN are run besides, in tests/test_getting_started.py.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from guide import COMMAND_LANGUAGES, ROOT, Block, dad_calls, programs, read_blocks
from pydantic import ValidationError
from typer.core import TyperGroup

from dad_datasets.cli import build_app
from dad_datasets.settings import Settings, load_settings
from dad_pipeline.labelling.recipe import LabelRecipe
from dad_pipeline.quantizer_training.settings import QuantizerRecipe
from dad_pipeline.recipe import Recipe
from dad_trainer.evaluation import EvaluationRecipe
from dad_trainer.sweep.settings import SweepSettings
from dad_trainer.training.recipe import TrainingRecipe

GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for guide in GUIDES for block in read_blocks(guide)]

RUN = "getting-started.md"

NOT_RUN = {
    "pip": "installs from a package index",
    "python": "tests/test_own_loop_guide.py runs that guide's scripts",
    "make": "builds everything; the demo's recipes have tests of their own",
    "torchrun": "wants several GPUs; the `dad train` in it is parsed",
    "docker": "wants a daemon; the `dad` in it is parsed, and tests/test_docker*.py check the rest",
    "docker/build.sh": "builds images: tests/test_docker.py",
    "docker/reproduce.sh": "runs the images: tests/test_reproduction.py",
    "BUILDAH_ISOLATION=chroot": "builds images, too",
    "ray": "wants a cluster; the `dad` in it is parsed",
    "kubectl": "wants a cluster",
    "export": "sets a variable of the shell",
    "hf": "talks to the Hugging Face hub",
    "mkdir": "makes folders for volumes",
    "mv": "names a file",
}
"""Other programs than `dad`, in the guides that are not run."""

NOT_COMMANDS = {
    ("docker.md", "FROM dad-trainer:0.1.0"): "a Dockerfile",
    ("docker.md", "figure                                               expected  tolerance  found   ok"): "output",
    ("format.md", "<out>/"): "a tree of files",
    ("format.md", "labels/<name>/"): "a tree of files",
    ("method.md", "x0  = canvas / 255"): "pseudocode",
    ("training.md", "teacher_adv_top1 == label and codes_changed_by_attack > 0.05"): "an expression of `where`",
}
"""Blocks without a language that are no commands, by guide and first line."""

TEXT_LANGUAGES = {"text", "json", "html", "latex", "math", "markdown", "toml", "diff"}

RECIPES: dict[str, type[Settings]] = {
    "generate": Recipe,
    "label": LabelRecipe,
    "train-quantizer": QuantizerRecipe,
    "train": TrainingRecipe,
    "sweep": SweepSettings,
    "evaluate": EvaluationRecipe,
}
"""What the recipe of each subcommand is."""


def first_line(block: Block) -> str:
    return block.text.partition("\n")[0]


def holds_commands(block: Block) -> bool:
    listed = (block.guide.name, first_line(block)) in NOT_COMMANDS
    return block.language in COMMAND_LANGUAGES and not listed and block.file_name is None


COMMANDS = [(block, command) for block in BLOCKS if holds_commands(block) for command in block.commands()]
DAD_CALLS = [(block, call) for block, command in COMMANDS for call in dad_calls(command)]


def test_every_block_is_of_a_kind_that_is_looked_at() -> None:
    looked_at = {*COMMAND_LANGUAGES, *TEXT_LANGUAGES, "yaml", "python"}
    assert [str(block) for block in BLOCKS if block.language not in looked_at] == []
    found = {(block.guide.name, first_line(block)) for block in BLOCKS if not block.language}
    assert set(NOT_COMMANDS) - found == set(), "listed, but not there any more"


def test_every_command_is_run_parsed_or_listed() -> None:
    neglected = [
        f"{block}: {command}"
        for block, command in COMMANDS
        for program in programs(command)
        if program not in {"dad", *NOT_RUN} and block.guide.name != RUN
    ]
    assert neglected == []
    named = {program for _, command in COMMANDS for program in programs(command)}
    assert set(NOT_RUN) - named == set(), "listed, but not there any more"


def test_the_reader_of_guides_finds_what_is_there() -> None:
    assert len(DAD_CALLS) > 30
    assert {call[0] for _, call in DAD_CALLS} > {"generate", "train", "evaluate", "expand", "label", "fetch", "report"}


def parsed(call: list[str]) -> dict[str, Any]:
    """What the program makes of a `dad` command's arguments; a usage error where it makes nothing of them."""
    group = typer.main.get_command(build_app())
    assert isinstance(group, TyperGroup)
    return group.commands[call[0]].make_context(call[0], list(call[1:])).params


@pytest.mark.parametrize(
    ("block", "call"), DAD_CALLS, ids=lambda value: " ".join(value) if isinstance(value, list) else str(value)
)
def test_every_dad_command_is_one_and_its_recipe_is_valid(block: Block, call: list[str], tmp_path: Path) -> None:
    given = parsed(call)
    recipe: Path | None = given.get("recipe") or given.get("file")
    if recipe is None:
        return
    beside = {other.file_name: other.text for other in BLOCKS if other.guide == block.guide}
    if str(recipe) in beside:
        path = tmp_path / recipe.name
        path.write_text(beside[str(recipe)])
    elif str(recipe).startswith("recipes/"):
        path = ROOT / recipe
    else:
        return  # a recipe shown without its name; the next test looks at it
    load_settings(RECIPES[call[0]], path, given.get("set_") or ())


def lacks(model: type[Settings], raw: Any) -> list[str] | None:
    """The sections that a recipe of this kind needs besides `raw`; None where `raw` is no part of one."""
    try:
        model.model_validate(raw)
    except ValidationError as error:
        mistakes = error.errors()
        if any(mistake["type"] != "missing" or len(mistake["loc"]) != 1 for mistake in mistakes):
            return None
        return [str(mistake["loc"][0]) for mistake in mistakes]
    return []


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=str)
def test_every_yaml_is_a_recipe_or_sections_of_one(block: Block) -> None:
    raw = yaml.safe_load(block.text)
    assert any(lacks(model, raw) is not None for model in RECIPES.values())


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_every_python_block_can_be_read_and_imports_what_there_is(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dad_"):
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if holds_commands(block)], ids=str)
def test_every_block_of_commands_is_shell(block: Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
