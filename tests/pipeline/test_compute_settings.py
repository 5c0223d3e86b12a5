"""How the numbers are computed: the batch that a GPU holds, and each network in its own precision."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import RawRecipe, run_recipe
from torch import Tensor, nn

from dad_datasets.errors import UserError
from dad_datasets.sources import WorkUnit, open_source
from dad_datasets.torch_devices import choose_device
from dad_pipeline.adversarial_views import attack_pixels
from dad_pipeline.batch_size import LARGEST, ON_CPU, ROOM, find_batch_size, largest_fitting
from dad_pipeline.fingerprint import settle
from dad_pipeline.models import Models, configure_torch, load_models
from dad_pipeline.recipe import ComputeSettings, Recipe
from dad_pipeline.runners.inline_runner import InlineRunner
from dad_pipeline.runners.runner import Event
from dad_pipeline.teacher_trial import try_teacher
from dad_pipeline.worker import WorkerSettings


@given(st.integers(1, 3 * LARGEST))
def test_the_largest_power_of_two_that_fits(room: int) -> None:
    def trial(size: int) -> None:
        if size > room:
            raise torch.OutOfMemoryError

    size = largest_fitting(trial)
    assert size <= room
    assert size == LARGEST or 2 * size > room


def test_a_gpu_too_small_for_one_view_is_told() -> None:
    def trial(_: int) -> None:
        raise torch.OutOfMemoryError

    with pytest.raises(UserError, match="not even one view fits"):
        largest_fitting(trial)


def test_other_errors_of_a_trial_are_not_taken_for_a_full_memory() -> None:
    def trial(_: int) -> None:
        raise RuntimeError("no kernel image")

    with pytest.raises(RuntimeError, match="no kernel image"):
        largest_fitting(trial)


def test_nothing_is_tried_on_a_cpu() -> None:
    assert find_batch_size(torch.device("cpu"), lambda _: pytest.fail("tried")) == ON_CPU


def test_the_memory_of_a_trial_is_limited_on_the_gpu_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's own check of the device, which comes before anything that needs a GPU."""
    limits: list[tuple[float, int]] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    monkeypatch.setattr("torch.cuda.memory._lazy_init", lambda: None)
    monkeypatch.setattr(
        "torch._C._cuda_setMemoryFraction", lambda share, index: limits.append((share, index)), raising=False
    )
    assert find_batch_size(choose_device("auto", field="device"), lambda _: None) == LARGEST
    assert limits == [(ROOM, 1), (1.0, 1)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_begun_on_a_gpu_is_not_continued_without_one() -> None:
    with pytest.raises(UserError, match="the run was begun on a GPU, and none was found here"):
        settle(ComputeSettings(), {"device": "cuda"})


def test_auto_is_settled_in_the_manifest_and_kept_on_resume(
    recipe: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe["compute"]["batch_size"] = "auto"
    run_recipe(recipe, tmp_path / "set")
    fields = json.loads((tmp_path / "set/manifest.json").read_text())["fingerprinted"]
    assert fields["recipe"]["compute"]["batch_size"] == ON_CPU
    monkeypatch.setattr("dad_pipeline.batch_size.ON_CPU", 4)  # as if this machine offered something else
    complete, _ = run_recipe(recipe, tmp_path / "set")
    assert complete


def _noting(seen: set[torch.dtype]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """A hook that notes what a product next to the module's own would be computed in."""

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        with torch.no_grad():
            seen.add((torch.ones(1, 1) @ torch.ones(1, 1)).dtype)

    return note


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def _dtypes_seen(models: Models) -> dict[str, set[torch.dtype]]:
    """What each network will have computed in, filled by its calls."""
    networks = {"teacher": models.teacher.network, "encoder": models.quantizer.encoder}
    networks["decoder"] = models.quantizer.decoder
    seen: dict[str, set[torch.dtype]] = {name: set() for name in networks}
    for name, network in networks.items():
        network.register_forward_pre_hook(_noting(seen[name]))
    return seen


@pytest.mark.parametrize(
    ("classifiers", "vqgan"),
    [("float32", "bfloat16"), ("bfloat16", "float32"), ("bfloat16", None), ("float32", None)],
)
@pytest.mark.parametrize("gradient", ["at_reconstruction", "straight_through"])
def test_each_network_computes_in_its_own_precision(
    recipe: RawRecipe, classifiers: str, vqgan: str | None, gradient: str
) -> None:
    """Seen from inside every network, in every call that an attack makes."""
    recipe["compute"] |= {"precision": classifiers, "quantizer_precision": vqgan}
    recipe["attack"]["gradient"] = gradient
    settings = Recipe.model_validate(recipe)
    models = load_models(settings, None)
    seen = _dtypes_seen(models)
    attack_pixels(models, settings, torch.rand(2, 3, 16, 16), torch.tensor([0, 1]))
    of_vqgan = {DTYPES[vqgan or classifiers]}
    assert seen == {"teacher": {DTYPES[classifiers]}, "encoder": of_vqgan, "decoder": of_vqgan}


def test_so_does_each_in_the_look_at_the_teacher(recipe: RawRecipe) -> None:
    recipe["compute"] |= {"precision": "bfloat16", "quantizer_precision": "float32"}
    settings = Recipe.model_validate(recipe)
    models, source = load_models(settings, None), open_source(settings.source)
    seen = _dtypes_seen(models)
    assert try_teacher(models, settings, source, list(source.plan(settings.samples_per_shard))) is not None
    assert seen == {"teacher": {torch.bfloat16}, "encoder": {torch.float32}, "decoder": {torch.float32}}


class InterruptedAtOnce:
    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        yield from ()
        raise KeyboardInterrupt


def test_a_run_goes_on_with_the_threads_that_it_was_begun_with(
    recipe: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_threads: None
) -> None:
    recipe["compute"]["threads"] = "auto"
    monkeypatch.setattr("dad_pipeline.fingerprint.num_cores", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path, lambda _: InterruptedAtOnce())
    monkeypatch.setattr("dad_pipeline.fingerprint.num_cores", lambda: 64)
    used: set[int] = set()

    def make_runner(models: Models) -> InlineRunner:
        torch.set_num_threads(1)  # so that it is the worker who sets them
        models.teacher.register_forward_hook(lambda *_: used.add(torch.get_num_threads()))
        return InlineRunner(models)

    assert run_recipe(recipe, tmp_path, make_runner)[0]
    assert json.loads((tmp_path / "manifest.json").read_text())["recipe"]["compute"]["threads"] == 2
    assert used == {2}


@pytest.mark.parametrize("deterministic", [False, True])
def test_deterministic_runs_ask_torch_for_it_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, own_threads: None, deterministic: bool
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    configure_torch(ComputeSettings(threads=1, deterministic=deterministic))
    assert asked == [True] * deterministic
    assert torch.backends.cudnn.benchmark is not deterministic
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if deterministic else None)


@pytest.fixture
def own_threads() -> Iterator[None]:
    """The threads of this process are afterwards as many as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
