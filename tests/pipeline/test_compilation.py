"""`compute.compile`: which networks are compiled, for which batches, and that nothing else about a run changes."""

from __future__ import annotations

import copy
import functools
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from tiny_labels import label, label_recipe
from tiny_run import RawRecipe, dataset_bytes, run_recipe
from torch import Tensor
from torch.fx import GraphModule

from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_pipeline.compilation import compile_networks
from dad_pipeline.expansion.expansion_run import expand_dataset
from dad_pipeline.models import load_models
from dad_pipeline.planning import plan_run
from dad_pipeline.recipe import Recipe
from dad_pipeline.replay import replay
from dad_pipeline.run_estimate import estimate_run
from dad_pipeline.runners.process_runner import ProcessRunner

BATCH = 8
Calls = Counter[tuple[str, int, bool]]
"""Compiled calls by the network's class, the batch's size and whether a gradient is taken."""


def keep_torch_compile_from_compiling(calls: Calls, patch: pytest.MonkeyPatch) -> None:
    """What it is given is counted and called as it is: inductor would take half a minute for each network."""

    def as_it_is(function: Callable[..., Tensor], **options: object) -> Callable[..., Tensor]:
        def call(*arguments: Any) -> Tensor:
            if function is not torch.sin:  # the trial
                module, images = arguments
                calls[type(module).__name__, len(images), images.requires_grad] += 1
            return function(*arguments)

        assert options == {"dynamic": False}
        return call

    patch.setattr(torch, "compile", as_it_is)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    counted: Calls = Counter()
    keep_torch_compile_from_compiling(counted, monkeypatch)
    return counted


@pytest.fixture
def compiled(recipe: RawRecipe) -> RawRecipe:
    recipe["compute"]["compile"] = True
    return recipe


def networks_in(calls: Calls) -> set[str]:
    return {name for name, _, _ in calls}


def test_a_run_calls_every_network_compiled_for_full_batches_alone(
    compiled: RawRecipe, tmp_path: Path, calls: Calls
) -> None:
    """20 views a unit, of two attack steps each: two full batches and a smaller one; the last unit has one of 8."""
    compiled["check"]["samples"] = 0
    run_recipe(compiled, tmp_path)
    full, steps = 2 + 2 + 1, 2
    vqgan_scored = 3  # the first batch of each unit
    assert calls == {
        ("ResNet", BATCH, False): 2 * full + vqgan_scored,
        ("ResNet", BATCH, True): steps * full,
        ("Encoder", BATCH, False): (steps + 2) * full,
        ("Decoder", BATCH, False): (steps + 1) * full,
    }


def test_a_gradient_through_the_vqgan_is_compiled_too(compiled: RawRecipe, tmp_path: Path, calls: Calls) -> None:
    compiled["attack"]["gradient"] = "straight_through"
    run_recipe(compiled, tmp_path)
    assert networks_in(calls) == {"ResNet", "Encoder", "Decoder"}
    assert {name for name, _, gradient in calls if gradient} == {"ResNet", "Encoder", "Decoder"}
    assert {size for _, size, _ in calls} == {BATCH}


def test_an_attacked_model_of_its_own_is_compiled(compiled: RawRecipe, tmp_path: Path, calls: Calls) -> None:
    compiled["attack"]["model"] = compiled["teacher"] | {"architecture": "test_efficientnet", "seed": 1}
    run_recipe(compiled, tmp_path)
    assert calls["EfficientNet", BATCH, True] > 0
    assert calls["ResNet", BATCH, False] > 0
    assert calls["ResNet", BATCH, True] == 0


def test_every_member_of_an_ensemble_is_compiled(compiled: RawRecipe, tmp_path: Path, calls: Calls) -> None:
    other = compiled["teacher"] | {"architecture": "test_efficientnet", "seed": 1}
    compiled["teacher"] = {"kind": "ensemble", "members": [compiled["teacher"], other]}
    plan_and_models = plan_run(Recipe.model_validate(compiled), open_folder(tmp_path))
    plan_and_models[1].teacher(torch.rand(BATCH, 3, 16, 16))
    assert networks_in(calls) == {"ResNet", "EfficientNet"}


def test_labels_replays_and_expansion_compile_what_they_call(compiled: RawRecipe, tmp_path: Path, calls: Calls) -> None:
    run_recipe(compiled, tmp_path / "set")
    run_recipe(compiled | {"store": {"image": "none"}}, tmp_path / "codes")

    calls.clear()
    key = pq.read_table(tmp_path / "set/index/tiny-00000.parquet")["key"][0].as_py()
    (replayed,) = replay(str(tmp_path / "set"), [("tiny-00000", key)])
    assert replayed.image_equal
    assert networks_in(calls) == {"ResNet", "Encoder", "Decoder"}

    calls.clear()
    label(tmp_path / "set", label_recipe(compiled))
    assert networks_in(calls) == {"ResNet"}

    calls.clear()
    console = Console(file=io.StringIO())
    expand_dataset(str(tmp_path / "codes"), str(tmp_path / "expanded"), console=console, device="cpu", check=2)
    assert networks_in(calls) == {"Decoder"}
    assert {size for _, size, _ in calls} == {BATCH}

    calls.clear()
    expand_dataset(str(tmp_path / "codes"), str(tmp_path / "plain"), console=console, device="cpu", compiled=False)
    assert not calls


def test_it_is_off_unless_asked_for(recipe: RawRecipe, tmp_path: Path, calls: Calls) -> None:
    run_recipe(recipe, tmp_path)
    assert not calls


def test_it_is_part_of_the_fingerprint(compiled: RawRecipe, tmp_path: Path, calls: Calls) -> None:
    run_recipe(compiled, tmp_path)
    fields = json.loads((tmp_path / "manifest.json").read_text())["fingerprinted"]
    assert fields["recipe"]["compute"]["compile"] is True
    compiled["compute"]["compile"] = False
    with pytest.raises(UserError, match=r"recipe.compute.compile: true there, false now"):
        run_recipe(compiled, tmp_path)


def test_hashes_names_and_copies_do_not_know_of_it(compiled: RawRecipe, calls: Calls) -> None:
    recipe = Recipe.model_validate(compiled)
    models = load_models(recipe, None)
    before = models.weights(), models.architectures(), [list(network.state_dict()) for network in models.networks()]
    compile_networks(models.networks(), recipe.compute, models.device)
    after = models.weights(), models.architectures(), [list(network.state_dict()) for network in models.networks()]
    assert after == before
    copied = copy.deepcopy(models.quantizer).double()
    codes = torch.zeros(BATCH, 8, 8, dtype=torch.long)
    assert copied.decode(codes).dtype == torch.float64
    assert models.quantizer.decode(codes).dtype == torch.float32


def test_an_estimate_tries_a_full_batch(compiled: RawRecipe, tmp_path: Path, calls: Calls) -> None:
    plan, models = plan_run(Recipe.model_validate(compiled), open_folder(tmp_path))
    assert estimate_run(plan, models).trial_views == BATCH
    assert {size for _, size, _ in calls} == {BATCH}


def test_a_machine_that_cannot_compile_is_told_before_any_work(
    compiled: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found\nand a paragraph")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: refuse)
    with pytest.raises(UserError) as raised:
        run_recipe(compiled, tmp_path)
    assert str(raised.value).startswith(
        "compute.compile = true: torch.compile does not work on this machine (No working C++ compiler found);"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[GraphModule]]:
    """What Dynamo itself makes of the networks, with nothing behind it."""
    traced: list[GraphModule] = []

    def backend(graph: GraphModule, _: Sequence[Tensor]) -> Callable[..., Any]:
        traced.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    yield traced
    torch._dynamo.reset()


def test_each_network_is_traced_whole_and_never_again(
    compiled: RawRecipe, tmp_path: Path, graphs: list[GraphModule]
) -> None:
    """One graph for each network, and one more where its gradient is taken; smaller batches bring none."""
    compiled["check"]["samples"] = 0
    complete, screen = run_recipe(compiled, tmp_path)
    assert complete, screen
    trial, teacher, encoder, decoder = 1, 2, 1, 1
    assert len(graphs) == trial + teacher + encoder + decoder


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_compiled_run_repeats_its_bytes_and_nearly_all_codes(
    recipe: RawRecipe, compiled: RawRecipe, tmp_path: Path
) -> None:
    """Inductor's own code: two runs, and one of two workers."""
    torch._dynamo.reset()
    run_recipe(compiled, tmp_path / "first")
    run_recipe(compiled, tmp_path / "second")
    run_recipe(compiled, tmp_path / "workers", lambda _: ProcessRunner(2))
    first = dataset_bytes(tmp_path / "first")
    assert dataset_bytes(tmp_path / "second") == first
    assert dataset_bytes(tmp_path / "workers") == first
    recipe["compute"]["compile"] = False
    recipe["store"] = {"image": "none"}
    run_recipe(recipe, tmp_path / "plain")
    recipe["compute"]["compile"] = True
    run_recipe(recipe, tmp_path / "compiled")

    def codes(name: str) -> list[Any]:
        tables = [pq.read_table(path) for path in sorted((tmp_path / name / "index").glob("*.parquet"))]
        return [np.array(table["codes"].to_pylist()) for table in tables]

    equal = [(ours == theirs).mean() for ours, theirs in zip(codes("compiled"), codes("plain"), strict=True)]
    assert min(equal) > 0.99


@pytest.mark.slow
def test_a_machine_without_a_compiler_is_told_so_by_dad(compiled: RawRecipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps(compiled))
    environment = {**os.environ, "PATH": "/nowhere", "CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    dad = str(Path(sys.executable).with_name("dad"))
    command = [dad, "generate", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: compute.compile = true: torch.compile does not work")
    assert not (tmp_path / "out/manifest.json").exists()
