"""The trainer and the base are light: importing every module of theirs loads no Ray, open_clip or taming."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"ray", "open_clip", "taming"}

TORCH_PARTS = ("dad_datasets.corruptions", "dad_datasets.torch_devices")
"""What is written on torch in the base, for the halves alone: their extras bring it."""

LIST_LOADED = """
import importlib, json, pkgutil, sys

def load(package):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if not module.name.startswith({without}):
            loaded = importlib.import_module(module.name)
            if module.ispkg:
                load(loaded)

for package in {packages}:
    load(importlib.import_module(package))
{extra}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def loaded_by(*packages: str, extra: str = "", without: tuple[str, ...] = ()) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after importing every module of `packages`."""
    program = LIST_LOADED.format(packages=packages, extra=extra, without=without)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout))


def test_the_trainer_loads_no_pipeline() -> None:
    assert not loaded_by("dad_trainer", "dad_datasets") & (HEAVY | {"dad_pipeline"})


def test_the_base_needs_no_torch() -> None:
    assert not loaded_by("dad_datasets", without=TORCH_PARTS) & (
        HEAVY | {"torch", "timm", "dad_pipeline", "dad_trainer"}
    )


@pytest.mark.parametrize("module", ["ray", "taming"])
def test_the_guard_can_fail(module: str) -> None:
    assert module in loaded_by("dad_trainer", extra=f"import {module}") & HEAVY


def test_command_modules_are_light_so_that_help_is_quick() -> None:
    commands = """
import dad_pipeline.commands.generate, dad_pipeline.commands.train_quantizer
import dad_trainer.commands.train, dad_trainer.commands.evaluate, dad_trainer.commands.sweep
"""
    assert not loaded_by(extra=commands) & (HEAVY | {"torch"})
