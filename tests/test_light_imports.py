"""The trainer and the base are light: importing every module of theirs loads no Ray, open_clip or taming."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"ray", "open_clip", "taming"}

LIST_LOADED = """
import importlib, json, pkgutil, sys
for package in {packages}:
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, package + "."):
        importlib.import_module(module.name)
{extra}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def loaded_by(*packages: str, extra: str = "") -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after importing every module of `packages`."""
    program = LIST_LOADED.format(packages=packages, extra=extra)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout))


def test_the_trainer_loads_no_pipeline() -> None:
    assert not loaded_by("dad_trainer", "dad_datasets") & (HEAVY | {"dad_pipeline"})


def test_the_base_needs_no_torch() -> None:
    assert not loaded_by("dad_datasets") & (HEAVY | {"torch", "timm", "dad_pipeline", "dad_trainer"})


@pytest.mark.parametrize("module", ["ray", "taming"])
def test_the_guard_can_fail(module: str) -> None:
    assert module in loaded_by("dad_trainer", extra=f"import {module}") & HEAVY


def test_command_modules_are_light_so_that_help_is_quick() -> None:
    commands = "import dad_pipeline.commands.generate, dad_pipeline.commands.train_quantizer"
    assert not loaded_by(extra=commands) & (HEAVY | {"torch"})
