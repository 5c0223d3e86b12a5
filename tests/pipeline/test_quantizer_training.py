"""`dad train-quantizer`: it learns, it resumes bit for bit, and what it leaves loads everywhere."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

from dad_datasets.errors import UserError
from dad_datasets.lease import Lease
from dad_datasets.settings import build_settings
from dad_pipeline.checkpoint_file import weights_sha256
from dad_pipeline.commands.train_quantizer import train_quantizer as train_quantizer_command
from dad_pipeline.quantizer import Quantizer
from dad_pipeline.quantizer_checkpoint import QuantizerSettings, load_quantizer
from dad_pipeline.quantizer_training.codebook import dead_codes, draw_vectors, perplexity, restart_codes
from dad_pipeline.quantizer_training.discriminator import (
    adversarial_weight,
    build_discriminator,
    discriminator_loss,
)
from dad_pipeline.quantizer_training.figures import QuantizerFigures, measure, psnr_db
from dad_pipeline.quantizer_training.images import Batches, ImageSet, hold_back
from dad_pipeline.quantizer_training.loop import train_quantizer
from dad_pipeline.quantizer_training.losses import (
    TeacherDistance,
    feature_distance,
    logit_divergence,
    quantisation_loss,
    reconstruction_loss,
)
from dad_pipeline.quantizer_training.settings import OptimiserSettings, QuantizerRecipe
from dad_pipeline.quantizer_training.state import differing_fields
from dad_pipeline.quantizer_training.step import StepFigures, learning_rate
from dad_pipeline.teachers import Teacher

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


def test_shipped_recipes_are_valid() -> None:
    raw = yaml.safe_load((Path(__file__).parents[2] / "recipes" / "cifar10" / "quantizer.yaml").read_text())
    assert build_settings(QuantizerRecipe, raw, origin="shipped").network.resolution == 32


class LinearTeacher(nn.Module):
    """Two logits: the brightness of the left half and of the right half."""

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.stack([half.mean(dim=(1, 2, 3)) for half in pixels.chunk(2, dim=3)], dim=1)


def linear_teacher() -> Teacher:
    return Teacher(LinearTeacher(), num_classes=2, preprocessing="none")


def test_the_figures_of_a_perfect_and_of_a_blind_quantizer() -> None:
    torch.manual_seed(0)
    quantizer = Quantizer(build_settings(QuantizerRecipe, raw_recipe(Path("x")), origin="test").network)
    pixels = torch.zeros(6, 3, 8, 8, dtype=torch.uint8)
    pixels[:3, :, :, :4] = 255
    pixels[3:, :, :, 4:] = 255
    images = ImageSet(pixels=pixels, labels=torch.tensor([0, 0, 0, 1, 1, 0]))

    class Perfect(Quantizer):
        def decode(self, codes: Tensor) -> Tensor:
            return pixels.float() / 255

    perfect = Perfect(quantizer.architecture)
    figures = measure(perfect, images, device=CPU, batch_size=6, teacher=linear_teacher())
    assert figures.psnr_db == pytest.approx(100)
    assert figures.teacher_clean == figures.teacher_round_trip == pytest.approx(5 / 6)

    class Blind(Quantizer):
        def decode(self, codes: Tensor) -> Tensor:
            grey = torch.zeros(len(codes), 3, 8, 8)
            grey[:, :, :, :4] = 0.5
            return grey

    blind = Blind(quantizer.architecture)
    with torch.no_grad():
        blind.codebook[1:] = 1e6  # one code alone is near to anything
    figures = measure(blind, images, device=CPU, batch_size=4, teacher=linear_teacher())
    assert figures.teacher_round_trip == pytest.approx(4 / 6)
    assert figures.codes_used == pytest.approx(1 / 16)
    assert figures.perplexity == pytest.approx(1)
    assert measure(blind, images, device=CPU, batch_size=4, teacher=None).teacher_clean is None


def test_psnr_is_its_definition() -> None:
    wanted = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    found = wanted + torch.tensor([0.1, 0.01], dtype=torch.float64)[:, None, None, None]
    torch.testing.assert_close(psnr_db(found, wanted), torch.tensor([20.0, 40.0], dtype=torch.float64))


def test_batches_cover_every_image_once_an_epoch_in_an_order_of_its_own() -> None:
    numbers = torch.arange(23, dtype=torch.uint8)
    pixels = numbers[:, None, None, None].expand(23, 3, 2, 2).clone()
    pixels[:, :, :, 1] = 200
    images = ImageSet(pixels=pixels, labels=torch.zeros(23, dtype=torch.int64))

    def batch(step: int) -> tuple[list[int], int]:
        found = (Batches(images, batch_size=5, seed=3)(step) * 255).round()
        mirrored = found[:, 0, 0, 0] == 200
        left = torch.where(mirrored, found[:, 0, 0, 1], found[:, 0, 0, 0])
        return [int(value) for value in left], int(mirrored.sum())

    epochs = [[number for step in range(4 * e, 4 * e + 4) for number in batch(step)[0]] for e in range(2)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert 20 < sum(batch(step)[1] for step in range(20)) < 80  # of 100: about half are mirrored
    in_order = Batches(images, batch_size=5, seed=3)
    assert all(torch.equal(in_order(step), Batches(images, batch_size=5, seed=3)(step)) for step in (0, 1, 4, 5, 2))


def test_crops_move_over_a_black_border_each_by_its_own_draw() -> None:
    """A single white pixel in the middle lands on every offset of -2..2, and never leaves the picture."""
    pixels = torch.zeros(200, 3, 5, 5, dtype=torch.uint8)
    pixels[:, :, 2, 2] = 255
    images = ImageSet(pixels=pixels, labels=torch.zeros(200, dtype=torch.int64))
    found = Batches(images, batch_size=200, seed=0, crop_padding=2)(0)
    assert torch.equal(found.sum((2, 3)), torch.ones(200, 3))
    assert {divmod(int(image[0].argmax()), 5) for image in found} == {(y, x) for y in range(5) for x in range(5)}
    assert torch.equal(found, Batches(images, batch_size=200, seed=0, crop_padding=2)(0))
    still = Batches(images, batch_size=200, seed=0)(0)
    assert torch.equal(still[:, :, 2, 2], torch.ones(200, 3))


def test_held_back_images_are_a_partition() -> None:
    images = ImageSet(pixels=torch.zeros(10, 3, 1, 1, dtype=torch.uint8), labels=torch.arange(10))
    training, validation = hold_back(images, 3, seed=0)
    assert sorted(training.labels.tolist() + validation.labels.tolist()) == list(range(10))
    assert len(validation) == 3


def test_quantisation_loss_is_van_den_oords() -> None:
    latents = torch.randn(2, 3, 4, 4, requires_grad=True)
    vectors = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = quantisation_loss(latents, vectors, codebook=2.0, commitment=0.5)
    on_latents, on_vectors = torch.autograd.grad(loss, (latents, vectors))
    gap = 2 * (latents - vectors).detach() / latents.numel()
    torch.testing.assert_close(on_latents, 0.5 * gap)
    torch.testing.assert_close(on_vectors, -2.0 * gap)
    assert float(loss.detach()) == pytest.approx(2.5 * float(F.mse_loss(latents.detach(), vectors.detach())), rel=1e-5)


def test_pixel_and_logit_losses_are_their_definitions() -> None:
    found, wanted = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    gap = (found - wanted).numpy()
    expected = 0.5 * np.abs(gap).mean() + 3 * np.square(gap).mean()
    assert float(reconstruction_loss(found, wanted, l1=0.5, l2=3)) == pytest.approx(expected, rel=1e-5)
    logits_found, logits_wanted = torch.randn(4, 7).double(), torch.randn(4, 7).double()
    p, q = (np.exp(x.numpy()) / np.exp(x.numpy()).sum(1, keepdims=True) for x in (logits_wanted, logits_found))
    assert float(logit_divergence(logits_found, logits_wanted)) == pytest.approx((p * np.log(p / q)).sum() / 4)


def test_feature_distance_looks_at_directions() -> None:
    features = torch.randn(2, 5, 3, 3)
    assert float(feature_distance([3 * features], [features])) == pytest.approx(0, abs=1e-10)
    assert float(feature_distance([-features], [features])) == pytest.approx(4)  # opposite unit vectors are 2 apart


@pytest.mark.parametrize("layers", [(), ("network",)])
def test_the_teachers_distance_vanishes_at_the_image_and_has_a_gradient_elsewhere(layers: tuple[str, ...]) -> None:
    distance = TeacherDistance(linear_teacher(), layers, torch.zeros(1, 3, 4, 4))
    wanted = torch.rand(2, 3, 4, 4)
    assert float(distance(wanted, wanted)) == pytest.approx(0, abs=1e-6)
    found = torch.rand(2, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(distance(found, wanted), found)
    assert float(gradient.abs().max()) > 0


def test_a_layer_that_the_teacher_has_not_is_refused() -> None:
    with pytest.raises(UserError, match=r"losses\.feature_layers: the teacher has no module 'network\.layer9'"):
        TeacherDistance(linear_teacher(), ["network.layer9"], torch.zeros(1, 3, 4, 4))


class OddTeacher(LinearTeacher):
    """With a module that answers with two tensors, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        rows = pixels.flatten(1, 2)
        self.attention(rows, rows, rows)
        return super().forward(pixels)


@pytest.mark.parametrize(
    ("layer", "message"), [("attention", "gives a tuple, no batch"), ("attention.out_proj", "is not called")]
)
def test_a_layer_without_features_is_refused_before_the_first_step(layer: str, message: str) -> None:
    teacher = Teacher(OddTeacher(), num_classes=2, preprocessing="none")
    with pytest.raises(UserError, match=rf"the teacher's module 'network\.{layer}' {message}"):
        TeacherDistance(teacher, [f"network.{layer}"], torch.zeros(1, 3, 4, 4))


@given(counts=st.lists(st.integers(0, 50), min_size=2, max_size=20).filter(any))
def test_perplexity_is_between_one_and_the_codes_in_use(counts: list[int]) -> None:
    found = perplexity(torch.tensor(counts))
    assert 1 - 1e-9 <= found <= sum(count > 0 for count in counts) + 1e-9
    assert perplexity(torch.full((len(counts),), 7)) == pytest.approx(len(counts))


def test_dead_codes_are_restarted_on_latents_and_lose_their_momentum() -> None:
    codebook = nn.Parameter(torch.zeros(4, 2))
    optimiser = torch.optim.AdamW([codebook], lr=0.1)
    codebook.grad = torch.ones(4, 2)
    optimiser.step()
    before = codebook.detach().clone()
    dead = dead_codes(torch.tensor([100, 0, 1, 99]), dead_below=0.1)
    assert dead.tolist() == [False, True, True, False]
    assert dead_codes(torch.tensor([5, 1, 0]), dead_below=0).tolist() == [False, False, True]
    latents = torch.tensor([[5.0, 6.0], [7.0, 8.0], [9.0, 10.0]])
    restart_codes(codebook, dead, latents, optimiser, torch.Generator().manual_seed(0))
    assert torch.equal(codebook.detach()[[0, 3]], before[[0, 3]])
    restarted = {tuple(row) for row in codebook.detach()[[1, 2]].tolist()}
    assert len(restarted) == 2
    assert restarted < {tuple(row) for row in latents.tolist()}
    assert optimiser.state[codebook]["exp_avg"].abs().sum(dim=1).ne(0).tolist() == [True, False, False, True]


def test_more_vectors_than_latents_are_near_copies() -> None:
    latents = torch.tensor([[0.0, 0.0], [10.0, 10.0]])
    vectors = draw_vectors(latents, 9, torch.Generator().manual_seed(0))
    assert len({tuple(row) for row in vectors.tolist()}) == 9
    assert float(torch.cdist(vectors, latents).min(dim=1).values.max()) < 1


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    settings = OptimiserSettings(steps=100, learning_rate=2.0, warmup_steps=9)
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == pytest.approx(2.0, rel=0.05)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 0.002
    assert rates[50] == pytest.approx(1.0)


def test_the_adversarial_terms_are_tamings() -> None:
    real, fake = torch.tensor([[2.0, 0.5]]), torch.tensor([[-3.0, 0.25]])
    assert float(discriminator_loss(real, fake)) == pytest.approx((0.5 / 2 + 1.25 / 2) / 2)
    layer = torch.ones(4, requires_grad=True)
    assert float(adversarial_weight(6 * layer.sum(), 2 * layer.sum(), layer)) == pytest.approx(3, rel=1e-4)
    torch.manual_seed(0)
    verdicts = build_discriminator(channels=8, num_layers=2)(torch.rand(2, 3, 32, 32))
    assert verdicts.shape[:2] == (2, 1)
    assert math.prod(verdicts.shape[2:]) > 1


def test_differing_fields_are_named_in_full() -> None:
    left = {"a": 1, "b": {"c": [1, 2], "d": 3}, "e": None}
    assert differing_fields(left, {**left}) == []
    assert differing_fields(left, {"a": 1, "b": {"c": [1], "d": 3, "f": 1}, "e": {"g": 1}}) == ["b.c", "b.f", "e"]
