"""bfloat16: what the student's layers compute in, while it is trained and while it is scored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_run import write_images
from tiny_training import checkpoint, flat_tensors, train, training_recipe
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_layers_compute_in_the_precision_asked_for(
    make_set: Callable[[str], Path], tmp_path: Path, precision: str, dtype: torch.dtype
) -> None:
    raw = training_recipe(make_set("full")) | {"schedule": {}, "epochs": None, "steps": 1}
    raw["student"] = {"architecture": "cifar_resnet20"}
    raw["validation"] = {"source": {"path": str(write_images(tmp_path / "images"))}}
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # The trial of one image, before the run, has nothing to do with it.
        if isinstance(module, nn.Conv2d | nn.Linear) and len(output) > 1:
            seen[module.training].add(output.dtype)

    hook = register_module_forward_hook(note)
    try:
        train(raw, tmp_path / "run", f"compute.precision={precision}")
    finally:
        hook.remove()
    assert seen == {True: {dtype}, False: {dtype}}
    weights = flat_tensors(checkpoint(tmp_path / "run")["state_dict"]).values()
    assert {tensor.dtype for tensor in weights if tensor.is_floating_point()} == {torch.float32}
