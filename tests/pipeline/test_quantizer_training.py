"""`dad train-quantizer`: it learns, it resumes bit for bit, and what it leaves loads everywhere."""

from __future__ import annotations

import json
import math
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

from dad_datasets.cli import build_app
from dad_datasets.errors import UserError
from dad_datasets.lease import Lease
from dad_datasets.settings import build_settings
from dad_datasets.stop_request import TrainingInterrupted
from dad_pipeline.checkpoint_file import weights_sha256
from dad_pipeline.commands.train_quantizer import train_quantizer as train_quantizer_command
from dad_pipeline.quantizer_checkpoint import QuantizerSettings, load_quantizer
from dad_pipeline.quantizer_training.figures import QuantizerFigures
from dad_pipeline.quantizer_training.loop import train_quantizer
from dad_pipeline.quantizer_training.settings import QuantizerRecipe
from dad_pipeline.quantizer_training.step import StepFigures

CPU = torch.device("cpu")
NETWORK = {
    "resolution": 8,
    "ch": 32,
    "ch_mult": [1, 1],
    "num_res_blocks": 1,
    "z_channels": 4,
    "embed_dim": 3,
    "n_embed": 16,
}


class BrokenOffError(Exception):
    pass


class Recorder:
    """A listener that keeps what it hears, and can break the run off."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.problems: Counter[str] = Counter()
        self.first_step = -1
        self.steps: list[StepFigures] = []
        self.checkpoints: list[int] = []

    def loaded(self, num_images: int, problems: Counter[str], first_step: int) -> None:
        self.problems, self.first_step = problems, first_step

    def stepped(self, step: int, figures: StepFigures) -> None:
        self.steps.append(figures)
        if step == self.stop_after:
            raise BrokenOffError

    def checkpointed(self, step: int, figures: QuantizerFigures) -> None:
        self.checkpoints.append(step)


class Interrupting(Recorder):
    """Sends a signal after step 5, as Ctrl-C or a scheduler does."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self._number = number

    def stepped(self, step: int, figures: StepFigures) -> None:
        super().stepped(step, figures)
        if step == 5:
            signal.raise_signal(self._number)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images of a coloured slope, in two classes, and one that is no image."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(40):
        folder = root / ("left" if number % 2 else "right")
        folder.mkdir(exist_ok=True)
        slope = np.linspace(0, 255, 12)[None, :, None] * rng.random((1, 1, 3))
        pixels = np.broadcast_to(slope if number % 2 else slope[:, ::-1], (8, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (root / "left" / "broken.png").write_bytes(b"no image")
    return root


def raw_recipe(source: Path, **changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "source": {"path": str(source)},
        "network": NETWORK,
        "codebook": {"continuous_steps": 1, "restart_every": 2},
        "optimiser": {"steps": 6, "batch_size": 8, "warmup_steps": 2, "ema_decay": 0.5},
        "precision": "float32",
        "device": "cpu",
        "threads": 1,
        "validation_images": 8,
        "checkpoint_every": 2,
    }
    return {**raw, **changes}


def recipe_of(source: Path, **changes: Any) -> QuantizerRecipe:
    return build_settings(QuantizerRecipe, raw_recipe(source, **changes), origin="test")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_interrupted_run_ends_in_the_same_bytes(tmp_path: Path, source: Path, precision: str) -> None:
    adversary = {"start_step": 2, "channels": 8, "num_layers": 1}
    network = {**NETWORK, "dropout": 0.1}
    recipe = recipe_of(source, network=network, discriminator=adversary, precision=precision)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train_quantizer(recipe, whole, Recorder())
    with pytest.raises(BrokenOffError):
        train_quantizer(recipe, broken, Recorder(stop_after=5))
    torch.rand(3)  # whatever else draws from the global generator in between
    recorder = Recorder()
    train_quantizer(recipe, broken, recorder)
    assert recorder.first_step == 4
    assert len(recorder.steps) == 2
    for name in ("quantizer.safetensors", "quantizer.json", "config.yaml", "summary.json", "reconstructions.png"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    first, second = (torch.load(folder / "last.pt", weights_only=True) for folder in (whole, broken))
    for part in ("quantizer", "averaged", "discriminator"):
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step_with_a_checkpoint(
    tmp_path: Path, source: Path, number: signal.Signals
) -> None:
    recipe = recipe_of(source, checkpoint_every=100)
    train_quantizer(recipe, tmp_path / "whole", Recorder())
    before = signal.getsignal(number)
    with pytest.raises(TrainingInterrupted) as caught:
        train_quantizer(recipe, tmp_path / "cut", Interrupting(number))
    assert caught.value.step == 5
    assert signal.getsignal(number) is before
    recorder = Recorder()
    train_quantizer(recipe, tmp_path / "cut", recorder)
    assert (recorder.first_step, len(recorder.steps)) == (5, 1)
    weights = [(tmp_path / folder / "quantizer.safetensors").read_bytes() for folder in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_training_learns_and_leaves_both_layouts(tmp_path: Path, source: Path) -> None:
    optimiser = {"steps": 40, "batch_size": 16, "learning_rate": 4e-3, "warmup_steps": 2}
    recipe = recipe_of(source, optimiser=optimiser, checkpoint_every=1000)
    recorder = Recorder()
    figures = train_quantizer(recipe, tmp_path, recorder)
    assert recorder.problems.total() == 1
    assert recorder.steps[-1].psnr_db > recorder.steps[0].psnr_db + 3
    assert figures.images == 8
    ours = load_quantizer(QuantizerSettings(checkpoint=tmp_path), device=CPU)
    published = load_quantizer(
        QuantizerSettings(checkpoint=tmp_path / "quantizer.ckpt", config=tmp_path / "config.yaml"), device=CPU
    )
    assert weights_sha256(ours) == weights_sha256(published)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["weights_sha256"] == weights_sha256(ours)
    assert summary["psnr_db"] == figures.psnr_db
    assert summary["steps"] == 40
    assert Image.open(tmp_path / "reconstructions.png").size == (8 * 8 * 16, 2 * 8 * 16)
    recorder = Recorder()
    assert train_quantizer(recipe, tmp_path, recorder) == figures
    assert recorder.steps == []


@pytest.mark.parametrize("part", ["quantizer", "discriminator"])
def test_a_run_that_diverges_stops_and_keeps_its_last_good_checkpoint(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    adversary = {"start_step": 0, "channels": 8, "num_layers": 1}
    recipe = recipe_of(source, discriminator=adversary)
    with pytest.raises(BrokenOffError):
        train_quantizer(recipe, tmp_path, Recorder(stop_after=4))  # before the checkpoint of that step
    good = (tmp_path / "last.pt").read_bytes()

    def infinite(*_: object, **__: object) -> torch.Tensor:
        return torch.tensor(math.inf, requires_grad=True)

    loss = {"quantizer": "quantisation_loss", "discriminator": "discriminator_loss"}[part]
    monkeypatch.setattr(f"dad_pipeline.quantizer_training.step.{loss}", infinite)
    with pytest.raises(UserError, match=rf"step 3: the {part}'s loss .*last\.pt is the last good checkpoint"):
        train_quantizer(recipe, tmp_path, Recorder())
    assert (tmp_path / "last.pt").read_bytes() == good


def test_a_learning_rate_out_of_all_measure_leaves_no_weights(tmp_path: Path, source: Path) -> None:
    optimiser = {"steps": 6, "batch_size": 8, "learning_rate": 1e30}
    with pytest.raises(UserError, match=r"the quantizer's loss .* there is no checkpoint yet"):
        train_quantizer(recipe_of(source, optimiser=optimiser, checkpoint_every=100), tmp_path, Recorder())
    assert not (tmp_path / "quantizer.safetensors").exists()


def test_another_recipe_or_other_images_in_the_same_folder_are_refused(tmp_path: Path, source: Path) -> None:
    train_quantizer(recipe_of(source), tmp_path, Recorder())
    changed = recipe_of(source, seed=1, losses={"l2": 2.0})
    with pytest.raises(UserError, match=r"was begun with another losses\.l2, seed;"):
        train_quantizer(changed, tmp_path, Recorder())
    other = source.parent / "other"
    (other / "a").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(other / "a" / "0.png")
    with pytest.raises(UserError, match=r"was begun with another source\.path;"):
        train_quantizer(recipe_of(other), tmp_path, Recorder())
    (tmp_path / "last.pt").write_bytes(b"garbage")
    with pytest.raises(UserError, match="not a readable training state"):
        train_quantizer(recipe_of(source), tmp_path, Recorder())


def test_a_checkpoint_of_another_program_and_a_folder_among_the_images_are_refused(
    tmp_path: Path, source: Path
) -> None:
    torch.save({"state_dict": {}, "sha256": ""}, tmp_path / "last.pt")  # as of dad train
    with pytest.raises(UserError, match=r"last\.pt is another program's, no state of dad train-quantizer: choose"):
        train_quantizer(recipe_of(source), tmp_path, Recorder())
    with pytest.raises(UserError, match=r"is inside the source .*: choose one outside"):
        train_quantizer(recipe_of(source), source / "quantizer", Recorder())
    assert not (source / "quantizer").exists()


def test_two_runs_at_once_in_one_folder_are_refused(tmp_path: Path, source: Path) -> None:
    with Lease(tmp_path), pytest.raises(UserError, match=str(tmp_path)):
        train_quantizer(recipe_of(source), tmp_path, Recorder())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": {"feature": 1.0}}, r"losses\.feature: needs a teacher"),
        ({"network": {**NETWORK, "kind": "gumbel", "embed_dim": 4}}, "kind must be vq"),
        ({"network": {**NETWORK, "resolution": 9}}, "resolution = 9 must be divisible by 2"),
        ({"optimiser": {"steps": 1, "batch_size": 33}}, r"optimiser\.batch_size = 33: must be at most the 32"),
        ({"validation_images": 40}, "validation_images = 40: must be less than the 40"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, source: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_quantizer(recipe_of(source, **changes), tmp_path, Recorder())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UserError, match="device = cuda: no GPU was found"):
        train_quantizer(recipe_of(source, device="cuda"), tmp_path, Recorder())


def test_the_command_trains_and_shows_the_figures(tmp_path: Path, source: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw_recipe(source)))
    app = typer.Typer()
    app.command()(train_quantizer_command)
    arguments = [str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out"), "--set", "optimiser.steps=2"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "PSNR after the round trip" in result.stdout
    assert "left out: 1 (" in result.stdout
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["steps"] == 2


def test_an_interrupted_command_says_how_to_go_on(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise TrainingInterrupted(7)

    monkeypatch.setattr("dad_pipeline.quantizer_training.loop.train_quantizer", interrupted)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw_recipe(source)))
    result = CliRunner().invoke(
        build_app(), ["train-quantizer", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 130
    assert "interrupted after step 7: run the same command again to go on from there" in result.stdout


def test_shipped_recipes_are_valid() -> None:
    raw = yaml.safe_load((Path(__file__).parents[2] / "recipes" / "cifar10" / "quantizer.yaml").read_text())
    assert build_settings(QuantizerRecipe, raw, origin="shipped").network.resolution == 32
