"""`dad train` as users start it: by itself, under torchrun, stopped by Ctrl-C, with a live teacher."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tiny_run import write_images
from tiny_training import RawRecipe, checkpoint, training_recipe

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@pytest.fixture(scope="module")
def recipe_file(make_set: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "train.yaml"
    raw: RawRecipe = {**training_recipe(make_set("full")), "batch_size": 24}
    path.write_text(yaml.safe_dump(raw))
    return path


def dad_train(recipe: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "dad"), "train", str(recipe), "--out", str(out), *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def torchrun(recipe: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`dad train` in two processes."""
    launcher = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node=2", "--no-python", str(BIN / "dad")]
    command = [*launcher, "train", str(recipe), "--out", str(out), *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def losses(out: Path) -> list[float]:
    return [float(row["train_loss"]) for row in csv.DictReader((out / "summary.csv").open())]


def test_two_processes_train_as_one_does(recipe_file: Path, tmp_path: Path) -> None:
    # Without ReLU: there a sum in another order, one flipped unit, can move a gradient by far more than its rounding.
    smooth = ("--set", "epochs=3", "--set", "student={architecture: test_vit}")
    alone = dad_train(recipe_file, tmp_path / "alone", *smooth)
    assert alone.returncode == 0, alone.stderr
    two = torchrun(recipe_file, tmp_path / "two", *smooth)
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("images through the student") == 1, "one process speaks for both"
    # A network without BatchNorm: gradients of the halves average to that of the whole but for the order of sums.
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "alone"), rtol=1e-4, atol=0)
    one, other = (checkpoint(tmp_path / name)["state_dict"] for name in ("alone", "two"))
    for name in one:
        torch.testing.assert_close(other[name], one[name], rtol=1e-3, atol=1e-5)


def test_two_processes_score_alike_and_go_on(recipe_file: Path, tmp_path: Path) -> None:
    # With BatchNorm each process has averages of its own: the leading one scores for both, or they would part ways.
    raw = yaml.safe_load(recipe_file.read_text())
    raw |= {"student": {"architecture": "cifar_resnet20"}, "ema": {"decay": 0.5}}
    raw["validation"] = {"source": {"path": str(write_images(tmp_path / "images"))}}
    recipe = tmp_path / "train.yaml"
    recipe.write_text(yaml.safe_dump(raw))
    first = torchrun(recipe, tmp_path / "run", "--set", "saving.every_epochs=1")
    assert first.returncode == 0, first.stderr
    before = (tmp_path / "run" / "summary.csv").read_bytes()
    # Back to the end of the first epoch.
    shutil.copy(tmp_path / "run" / "epoch-0001.pt", tmp_path / "run" / "last.pt")
    again = torchrun(recipe, tmp_path / "run")
    assert again.returncode == 0, again.stderr
    assert "going on after step 2 of 4" in again.stdout
    assert (tmp_path / "run" / "summary.csv").read_bytes() == before


def test_a_mistake_stands_on_the_screen_once(recipe_file: Path, tmp_path: Path) -> None:
    dad_train(recipe_file, tmp_path / "run", "--set", "epochs=1")
    refused = torchrun(recipe_file, tmp_path / "run", "--set", "epochs=1", "--set", "loss.temperature=2")
    assert refused.returncode != 0
    assert refused.stderr.count("loss.temperature: 4.0 there, 2.0 now") == 1
    alone = {**ENVIRONMENT, "WORLD_SIZE": "2"}
    command = [str(BIN / "dad"), "train", str(recipe_file), "--out", str(tmp_path / "new")]
    ended = subprocess.run(command, env=alone, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "start several processes with torchrun" in ended.stderr


def stopped_in_mid_run(command: list[str], number: signal.Signals) -> tuple[int, str]:
    """Status and output of an endless run whose whole process group gets a signal after its first epoch."""
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 0"):
                break
        os.killpg(process.pid, number)
        seen = process.stdout.read()
        return process.wait(), " ".join(seen.split())


@pytest.mark.parametrize(("workers", "number", "samples"), [(0, signal.SIGINT, 12), (1, signal.SIGTERM, 24)])
def test_a_signal_ends_with_a_checkpoint_and_the_command_goes_on(
    recipe_file: Path, tmp_path: Path, workers: int, number: signal.Signals, samples: int
) -> None:
    """With two steps an epoch, and with one, which is always its last."""
    out = tmp_path / "run"
    settings = ["epochs=100000", f"compute.workers={workers}", f"batch_size={2 * samples}"]
    endless = [str(BIN / "dad"), "train", str(recipe_file), "--out", str(out)]
    status, seen = stopped_in_mid_run([*endless, *(part for one in settings for part in ("--set", one))], number)
    assert status == 130, seen
    step = checkpoint(out)["step"]
    assert f"interrupted after step {step}: run the same command again" in seen
    assert step >= 24 // samples


def test_two_processes_end_with_a_checkpoint_too(recipe_file: Path, tmp_path: Path) -> None:
    """torchrun passes the signal on to the group of each; two steps an epoch are fewer than they look at it after."""
    launcher = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node=2", "--no-python", str(BIN / "dad")]
    command = [*launcher, "train", str(recipe_file), "--out", str(tmp_path / "run")]
    settings = ["--set", "epochs=100000", "--set", "compute.workers=1"]
    _, seen = stopped_in_mid_run([*command, *settings], signal.SIGTERM)
    assert f"interrupted after step {checkpoint(tmp_path / 'run')['step']}" in seen
    assert "DataLoader worker" not in seen


def test_nodes_that_do_not_share_the_folder_are_refused(recipe_file: Path, tmp_path: Path) -> None:
    torchrun(recipe_file, tmp_path / "run-0", "--set", "epochs=1")
    script = tmp_path / "train.sh"
    script.write_text(f'exec {BIN}/dad train {recipe_file} --out "{tmp_path}/run-$RANK" --set epochs=1\n')
    command = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node=2", "--no-python", "sh", str(script)]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "process 1 finds step 0" in ended.stderr
    assert "all nodes must share that folder" in ended.stderr


def test_a_live_teacher_is_found_and_answers_as_it_did_when_the_logits_were_stored(
    recipe_file: Path, make_set: Callable[[str], Path], tmp_path: Path
) -> None:
    # Nothing augmented, so that the live teacher sees the very pixels that the stored logits are of.
    plain = ["--set", "augment={}", "--set", "epochs=1"]
    stored = dad_train(recipe_file, tmp_path / "stored", *plain)
    teacher = tmp_path / "teacher.yaml"
    section = {"kind": "timm", "architecture": "test_resnet", "checkpoint": "random", "seed": 0, "image_size": 32}
    teacher.write_text(yaml.safe_dump({"teacher": section}))
    live = dad_train(recipe_file, tmp_path / "live", *plain, "--teacher", str(teacher))
    assert stored.returncode == live.returncode == 0, stored.stderr + live.stderr
    assert "live teacher" in live.stdout
    assert "stored logits" in stored.stdout
    torch.testing.assert_close(losses(tmp_path / "live"), losses(tmp_path / "stored"), rtol=1e-3, atol=0)
    other = {**section, "seed": 1}
    teacher.write_text(yaml.safe_dump({"teacher": other}))
    dad_train(recipe_file, tmp_path / "other", *plain, "--teacher", str(teacher))
    assert abs(losses(tmp_path / "other")[0] / losses(tmp_path / "stored")[0] - 1) > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "shards=[{path: nowhere}]"], "nowhere is not a dataset"),
        (["--set", "losss.name=kd"], "losss"),
        (["--out", "s3://bucket/run"], "--out s3://bucket/run: a local path is needed here"),
    ],
)
def test_a_mistake_is_one_line(recipe_file: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    ended = dad_train(recipe_file, tmp_path / "run", *arguments)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert message in ended.stderr
    assert not (tmp_path / "run").exists()
