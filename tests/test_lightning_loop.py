"""recipes/lightning_loop.py, run small: interrupted within an epoch and between two, with workers and without."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch
from tiny_run import run_recipe, tiny_recipe, write_images, write_quantizer

from dad_trainer.students import load_student

SCRIPT = Path(__file__).parent.parent / "recipes" / "lightning_loop.py"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images, a clean-only view each and an attacked one, of which the two largest logits are kept."""
    base = tmp_path_factory.mktemp("lightning")
    recipe = tiny_recipe(write_images(base / "tiny"), write_quantizer(base / "quantizer"))
    recipe["views"]["draw"] = [{"kind": "centre"}, {"kind": "pad_crop", "attack": False}]
    recipe["store"] = {"logits": {"top_k": 2, "temperatures": [4.0]}}
    complete, screen = run_recipe(recipe, base / "set")
    assert complete, screen
    return base / "set"


def trained(shards: Path, out: Path, *arguments: str) -> dict[str, torch.Tensor]:
    """The student's weights after a run of eleven steps, four an epoch, with a checkpoint of each second step."""
    with pytest.MonkeyPatch.context() as patch:
        common = ["--architecture", "test_resnet", "--batch-size", "6", "--steps", "11", "--save-every", "2"]
        patch.setattr(sys, "argv", [str(SCRIPT), str(shards), "--out", str(out), *common, *arguments])
        runpy.run_path(str(SCRIPT), run_name="__main__")
    weights: dict[str, torch.Tensor] = torch.load(out / "student.pt", weights_only=True)["state_dict"]
    return weights


def test_interruptions_and_workers_change_nothing(shards: Path, tmp_path: Path) -> None:
    whole = trained(shards, tmp_path / "whole", "--workers", "0")
    for interruption in ("7", "8"):  # from the checkpoint of step 6, within an epoch; and from that between two
        out = tmp_path / interruption
        stopped = trained(shards, out, "--workers", "2", "--stop-after", interruption)
        assert not all(stopped[name].equal(whole[name]) for name in whole)
        gone_on = trained(shards, out, "--workers", "2")
        assert all(gone_on[name].equal(whole[name]) for name in whole), interruption
    other = trained(shards, tmp_path / "other", "--workers", "0", "--seed", "1")
    assert not all(other[name].equal(whole[name]) for name in whole)
    student = load_student(tmp_path / "whole" / "student.pt")
    assert (student.architecture, student.num_classes) == ("test_resnet", 3)
