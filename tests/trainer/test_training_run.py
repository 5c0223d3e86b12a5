"""Training runs: resumed equals uninterrupted bit for bit, whoever loads the data; their files; their mistakes."""

from __future__ import annotations

import csv
import multiprocessing
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from tiny_run import write_images
from tiny_training import (
    PowerCutError,
    RawRecipe,
    assert_same_run,
    checkpoint,
    cut_power_after,
    flat_tensors,
    train,
    training_recipe,
)

from dad_datasets.errors import UserError
from dad_datasets.settings import build_settings
from dad_trainer.evaluation.inference import input_size
from dad_trainer.students import load_student
from dad_trainer.training.batch import Batch
from dad_trainer.training.checkpoints import Checkpoints
from dad_trainer.training.ingredients import gather
from dad_trainer.training.processes import Processes
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.step import BatchLoss


@pytest.fixture(scope="module")
def raw(make_set: Callable[[str], Path]) -> RawRecipe:
    return training_recipe(make_set("full"))


@pytest.fixture(scope="module")
def finished(raw: RawRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of eight steps."""
    out = tmp_path_factory.mktemp("run") / "whole"
    done, _ = train(raw, out)
    assert done
    return out


@pytest.mark.parametrize("steps", [1, 3, 4, 6])
def test_a_killed_run_goes_on_to_the_same_bits(
    raw: RawRecipe, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    with monkeypatch.context() as patch:
        cut_power_after(patch, steps)
        with pytest.raises(PowerCutError):
            train(raw, tmp_path, "saving.every_steps=1")
    assert checkpoint(tmp_path)["step"] == steps
    done, seen = train(raw, tmp_path)
    assert done
    assert f"going on after step {steps} of 8" in seen
    assert_same_run(finished, tmp_path)


def test_loader_workers_change_nothing(raw: RawRecipe, finished: Path, tmp_path: Path) -> None:
    train(raw, tmp_path, "compute.workers=2")
    assert_same_run(finished, tmp_path)


def test_another_seed_gives_another_run(raw: RawRecipe, finished: Path, tmp_path: Path) -> None:
    train(raw, tmp_path, "seed=1")
    assert (finished / "summary.csv").read_bytes() != (tmp_path / "summary.csv").read_bytes()


def test_accumulated_passes_amount_to_the_whole_batch(raw: RawRecipe, tmp_path: Path) -> None:
    # One step: later ones would magnify the rounding by which sums in another order differ.
    unmixed = {**raw, "augment": {"crop_padding": 2, "flip": 0.5}, "schedule": {}, "epochs": None, "steps": 1}
    train(unmixed, tmp_path / "whole")
    train(unmixed, tmp_path / "parts", "compute.accumulate=3")
    whole, parts = (checkpoint(tmp_path / name)["state_dict"] for name in ("whole", "parts"))
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-6)


def test_couples_that_mix_are_not_parted(raw: RawRecipe, tmp_path: Path) -> None:
    # Six samples a step, in two passes of three.
    with pytest.raises(UserError, match="must be a multiple of 8 with 1 processes, accumulate = 2 and mixing"):
        train(raw, tmp_path, "compute.accumulate=2")


def test_the_checkpoint_loads_in_timm(finished: Path) -> None:
    network = timm.create_model(
        "cifar_resnet20", num_classes=3, norm="group", checkpoint_path=str(finished / "last.pt")
    )
    saved = checkpoint(finished)["state_dict"]
    for name, value in network.state_dict().items():
        assert torch.equal(value, saved[name])


@pytest.mark.slow
def test_a_compiled_student_is_saved_under_its_plain_names(raw: RawRecipe, tmp_path: Path) -> None:
    """Slow, because it builds kernels with the machine's C++ compiler."""
    train(raw, tmp_path / "plain", "steps=2", "epochs=null", "schedule={}")
    train(raw, tmp_path / "compiled", "steps=2", "epochs=null", "schedule={}", "compute.compile=true")
    plain, compiled = (checkpoint(tmp_path / name)["state_dict"] for name in ("plain", "compiled"))
    assert plain.keys() == compiled.keys()
    for name in plain:
        torch.testing.assert_close(compiled[name], plain[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("architecture", ["cifar_resnet20", "test_vit"])
def test_a_checkpoint_knows_the_size_that_its_student_was_trained_at(
    raw: RawRecipe, tmp_path: Path, architecture: str
) -> None:
    """Whatever timm's own size for the architecture is."""
    train({**raw, "student": {"architecture": architecture}}, tmp_path, "steps=1", "epochs=null", "schedule={}")
    student = load_student(tmp_path / "last.pt")
    assert input_size(student) == 16
    assert student.model(torch.zeros(1, 3, 16, 16)).shape == (1, 3)
    if architecture == "cifar_resnet20":
        assert input_size(load_student(tmp_path / "last.pt", image_size=32)) == 32


def test_the_average_of_weights_is_what_timm_loads(raw: RawRecipe, tmp_path: Path) -> None:
    train(raw, tmp_path, "ema.decay=0.5", "ema.warmup=false")
    saved = checkpoint(tmp_path)
    assert not torch.equal(saved["state_dict_ema"]["fc.weight"], saved["state_dict"]["fc.weight"])
    network = timm.create_model(
        "cifar_resnet20", num_classes=3, norm="group", checkpoint_path=str(tmp_path / "last.pt")
    )
    assert torch.equal(network.state_dict()["fc.weight"], saved["state_dict_ema"]["fc.weight"])


def test_the_folder_tells_the_run(raw: RawRecipe, finished: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader((finished / "summary.csv").open()))
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", "4"), ("1", "8")]
    args = yaml.safe_load((finished / "args.yaml").read_text())
    assert args["loss"]["name"] == "dad"
    # The resolved recipe is a recipe: it trains the same student again.
    done, _ = train(args, tmp_path)
    assert done
    assert_same_run(finished, tmp_path)


def test_what_is_left_out_is_said(raw: RawRecipe, tmp_path: Path) -> None:
    shards = {**raw["shards"][0], "where": "view != 1"}
    _, seen = train({**raw, "shards": [shards]}, tmp_path)
    # 25 images, one of which cannot be decoded, three views each.
    assert "48 of 75 views (3 could not be made, 24 are not asked for)" in seen


def test_a_finished_run_has_nothing_left_to_do(raw: RawRecipe, finished: Path) -> None:
    before = (finished / "last.pt").read_bytes()
    done, seen = train(raw, finished)
    assert done
    assert "images through the student" in seen
    assert (finished / "last.pt").read_bytes() == before


def test_a_student_learns_its_images_by_heart(raw: RawRecipe, tmp_path: Path) -> None:
    plain = {**raw, "augment": {}, "loss": {"name": "ce"}, "batch_size": 8, "epochs": 30}
    done, _ = train(plain, tmp_path, "optimiser.lr=0.1")
    assert done
    rows = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert float(rows[-1]["train_loss"]) < 0.5 * float(rows[0]["train_loss"])


# Mistakes: one sentence each, before training starts.


def test_a_loss_that_is_no_number_stops_and_names_the_last_good_checkpoint(
    raw: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[torch.Tensor] = []
    whole = BatchLoss.__call__

    def spoilt(self: BatchLoss, student: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        loss, right = whole(self, student, batch)
        losses.append(loss)
        return loss * (float("nan") if len(losses) == 6 else 1.0), right

    monkeypatch.setattr(BatchLoss, "__call__", spoilt)
    with pytest.raises(UserError, match="step 5: the loss or its gradient is not a finite number") as caught:
        train(raw, tmp_path, "saving.every_steps=2")
    assert f"the last good checkpoint is {tmp_path / 'last.pt'}" in str(caught.value)
    good = checkpoint(tmp_path)
    assert good["step"] == 4
    assert all(tensor.isfinite().all() for tensor in flat_tensors(good).values())


def test_weights_that_are_not_finite_are_never_saved(raw: RawRecipe, tmp_path: Path) -> None:
    # The loss before the only step is finite; the step itself spoils the weights.
    with pytest.raises(UserError, match="step 0: the weights are not finite numbers; there is no checkpoint yet"):
        train(
            {**raw, "epochs": None, "schedule": {}},
            tmp_path,
            "steps=1",
            "optimiser.lr=1e30",
            "optimiser.weight_decay=1e20",
        )
    assert not (tmp_path / "last.pt").exists()


def test_what_cannot_be_read_is_one_sentence_from_a_loader_worker_too(raw: RawRecipe, tmp_path: Path) -> None:
    copy = shutil.copytree(raw["shards"][0]["path"], tmp_path / "shards")
    for tar in (copy / "shards").glob("*.tar"):
        content = tar.read_bytes()
        tar.write_bytes(content.replace(b"RIFF", b"RAFF"))  # WebP's first bytes; no size changes
    with pytest.raises(UserError, match=r"shards/tiny-0000\d\.tar: the image of .* cannot be decoded") as caught:
        train({**raw, "shards": [{"path": str(copy)}]}, tmp_path / "run", "compute.workers=2")
    assert "Traceback" not in str(caught.value)
    # Though the traceback still holds the frames of the loop: workers that live on keep the process from ending.
    assert not multiprocessing.active_children()


def test_another_recipe_in_the_same_folder_is_refused(raw: RawRecipe, finished: Path) -> None:
    with pytest.raises(UserError, match=r"loss.temperature: 4.0 there, 2.0 now"):
        train(raw, finished, "loss.temperature=2.0")


def test_a_damaged_checkpoint_gives_way_to_the_one_before(raw: RawRecipe, finished: Path, tmp_path: Path) -> None:
    train(raw, tmp_path, "saving.every_steps=1")
    content = bytearray((tmp_path / "last.pt").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    (tmp_path / "last.pt").write_bytes(content)
    done, seen = train(raw, tmp_path)
    assert done
    assert "last.pt is damaged" in seen
    assert "going on after step 7 of 8" in seen
    assert_same_run(finished, tmp_path)
    # The damaged one was set aside, not made the one before.
    assert (tmp_path / "last.damaged").read_bytes() == content
    assert checkpoint(tmp_path, "previous.pt")["step"] == 7


@pytest.mark.parametrize("files_written", [0, 1, 2])
def test_a_run_killed_among_the_files_of_an_epoch_writes_them_all_in_the_end(
    raw: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files_written: int
) -> None:
    validated = {**raw, "validation": {"source": {"path": str(write_images(tmp_path / "images"))}}}
    train(validated, tmp_path / "whole", "saving.every_epochs=1")
    written: list[str] = []
    save = Checkpoints.save

    def cut(self: Checkpoints, name: str, document: Mapping[str, Any]) -> None:
        if len(written) == files_written:
            raise PowerCutError
        save(self, name, document)
        written.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", cut)
        with pytest.raises(PowerCutError):
            train(validated, tmp_path / "cut", "saving.every_epochs=1")
    train(validated, tmp_path / "cut", "saving.every_epochs=1")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    for name in ("best.pt", "epoch-0001.pt", "epoch-0002.pt"):
        assert checkpoint(tmp_path / "cut", name)["step"] == checkpoint(tmp_path / "whole", name)["step"]


def test_all_that_has_a_state_goes_on_to_the_same_bits(
    raw: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = {"architecture": "cifar_resnet20", "drop_rate": 0.5}  # BatchNorm's averages, dropout's draws
    rich = {**raw, "student": student, "ema": {"decay": 0.9}, "optimiser": {"name": "adamw"}, "clip_norm": 1.0}
    rich["augment"] = {"rand_augment": "rand-m9-mstd0.5", "aug_mix": {}, "mixup": 0.2}
    train(rich, tmp_path / "whole", "compute.precision=bfloat16")
    with monkeypatch.context() as patch:
        cut_power_after(patch, 5)
        with pytest.raises(PowerCutError):
            train(rich, tmp_path / "cut", "saving.every_steps=1", "compute.precision=bfloat16")
    train(rich, tmp_path / "cut", "compute.precision=bfloat16")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_what_an_optimiser_makes_at_once_is_where_the_student_is(raw: RawRecipe) -> None:
    recipe = build_settings(TrainingRecipe, {**raw, "optimiser": {"name": "adagrad", "lr": 0.1}}, origin="recipe")
    elsewhere = Processes(rank=0, count=1, device=torch.device("meta"))
    optimiser = gather(recipe, elsewhere).optimiser
    assert {state["sum"].device.type for state in optimiser.state.values()} == {"meta"}


def test_no_whole_checkpoint_is_said_and_nothing_is_lost(raw: RawRecipe, tmp_path: Path) -> None:
    train(raw, tmp_path)
    for name in ("last.pt", "previous.pt"):
        (tmp_path / name).write_bytes(b"PK" + bytes(100))
    with pytest.raises(UserError, match="no whole checkpoint is left; remove it to begin again"):
        train(raw, tmp_path)


def test_a_full_memory_names_a_way_out_that_the_same_folder_takes(
    raw: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    large = {**raw, "augment": {}, "batch_size": 24}
    with monkeypatch.context() as patch:
        patch.setattr(BatchLoss, "__call__", full)
        with pytest.raises(UserError, match=r"^12 images at once do not fit .*: try --set compute\.accumulate=4, or"):
            train(large, tmp_path / "out", "compute.accumulate=2")
    train(large, tmp_path / "out", "compute.accumulate=4")
    train(large, tmp_path / "fresh", "compute.accumulate=4")
    assert_same_run(tmp_path / "fresh", tmp_path / "out")
    with pytest.raises(UserError, match=r"compute.accumulate: 4 there, 2 now"):
        train(large, tmp_path / "out", "compute.accumulate=2")


def test_a_missing_compiler_is_told_before_anything_is_written(
    raw: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(UserError, match=r"torch\.compile does not work on this machine .* without them: false"):
        train(raw, tmp_path / "run", "compute.compile=true")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["student.architecture=resnet81"], "timm has no such model; close names: resnet18"),
        (["loss.name=kld"], "loss.name"),
        (["batch_size=1000"], "an epoch's 24 samples do not fill one batch"),
        (["batch_size=13"], "pairs need an even number of images"),
        (["student.image_size=32"], "the shards hold images of 16 pixels"),
        (["epochs=null"], "give either epochs or steps"),
        (["images=clean"], "loss dad cannot be trained on images: clean"),
        (["saving.wandb_project=mine"], "Weights & Biases is not installed"),
        (["compute.device=cuda"], "no GPU was found"),
        (["student={architecture: inception_v3}"], "cannot take images of 16 pixels"),
        (["loss.name=ce", "teacher={kind: timm}"], "loss ce asks no teacher"),
        (["schedule.warmup_epochs=9"], "leaves none of the run's 8"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    raw: RawRecipe, tmp_path: Path, overrides: list[str], message: str
) -> None:
    out = tmp_path / "run"
    with pytest.raises(UserError, match=re.escape(message)):
        train(raw, out, *overrides)
    assert not out.exists()
