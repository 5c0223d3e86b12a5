"""`dad generate --plan`: what it foretells is what a run does."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tiny_run import RawRecipe, dataset_bytes, run_recipe
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from dad_datasets.cli import build_app
from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_pipeline.flop_count import FlopCount
from dad_pipeline.planning import plan_run
from dad_pipeline.recipe import Recipe
from dad_pipeline.run_estimate import RunEstimate, duration_text, estimate_run, print_estimate, size_text


def estimate(raw: RawRecipe, out: Path, views_per_s: float | None = None) -> RunEstimate:
    plan, models = plan_run(Recipe.model_validate(raw), open_folder(out))
    return estimate_run(plan, models, views_per_s=views_per_s)


@pytest.mark.parametrize("image", ["webp", "none"])
def test_disk_is_foretold_within_a_tenth(recipe: RawRecipe, tmp_path: Path, image: str) -> None:
    recipe["store"] = {"image": image}
    found = estimate(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    complete, _ = run_recipe(recipe, tmp_path / "out")
    assert complete
    files = dataset_bytes(tmp_path / "out")
    tars = sum(len(content) for name, content in files.items() if name.endswith(".tar"))
    padding = 3 * 10_240  # of three tars; a unit of this size is nothing but padding
    assert abs(found.num_views * found.tar_bytes_per_view - tars) <= 0.1 * tars + padding
    if image == "none":
        assert tars == found.tar_bytes_per_view == 0
        assert found.index_bytes_per_view == 170 + 2 * 8 * 8 + 2 * 2 * 3  # codes uint16 [8, 8], logits float16 [2, 3]


def test_operations_are_torch_s_count() -> None:
    """Of a convolution, attention and a product, forwards and backwards; in closed form for the product."""
    layer = nn.TransformerEncoderLayer(16, 2, dim_feedforward=32, batch_first=True, dropout=0.0)
    network = nn.Sequential(nn.Conv1d(8, 16, 3), nn.Flatten(), nn.Unflatten(1, (4, 16)), layer, nn.Linear(16, 5))
    image = torch.rand(2, 8, 6)
    with FlopCounterMode(display=False) as theirs:
        network(image).sum().backward()
    with FlopCount() as ours:
        network(image).sum().backward()
    assert ours.total == theirs.get_total_flops() > 0
    with FlopCount() as product:
        _ = torch.rand(3, 4) @ torch.rand(4, 5)
    assert product.total == 2 * 3 * 4 * 5


@pytest.mark.parametrize("gradient", [True, False])
def test_operations_of_attention_are_counted_without_gradients_too(gradient: bool) -> None:
    batch, tokens, width = 2, 5, 16
    attention = nn.MultiheadAttention(width, 4, batch_first=True).eval()
    states = torch.rand(batch, tokens, width)
    with FlopCount() as counted, torch.set_grad_enabled(gradient):
        attention(states, states, states, need_weights=False)
    projections = 4 * 2 * batch * tokens * width * width
    products = 2 * 2 * batch * tokens * tokens * width
    assert counted.total == projections + products
    assert torch.backends.mha.get_fastpath_enabled()


def test_work_is_counted_by_its_parts(recipe: RawRecipe, tmp_path: Path) -> None:
    """Two steps, re-encoded each: encodings of x0, xq, one between and one after; and two gradients, two scorings."""
    plan, models = plan_run(Recipe.model_validate(recipe), open_folder(tmp_path))
    image = torch.rand(1, 3, 16, 16)

    def counted(work: Callable[[], object]) -> int:
        counter = FlopCount()
        with counter:
            work()
        return counter.total

    with torch.no_grad():
        codes = models.quantizer.encode(image)
        encoder, decoder = (
            counted(lambda: models.quantizer.encode(image)),
            counted(lambda: models.quantizer.decode(codes)),
        )
        teacher = counted(lambda: models.teacher(image))
    at = image.requires_grad_(True)
    gradient = counted(lambda: torch.autograd.grad(models.teacher(at).sum(), at))
    expected = 4 * encoder + 3 * decoder + 2 * gradient + 2 * teacher
    assert estimate_run(plan, models).flops_per_view == expected


def test_time_and_totals_follow_from_the_rate(recipe: RawRecipe, tmp_path: Path) -> None:
    recipe["views"]["draw"].append({"kind": "random_resized_crop", "attack": False})
    found = estimate(recipe, tmp_path, views_per_s=4.0)
    assert (found.num_images, found.num_views, found.num_attacked, found.num_units) == (24, 72, 48, 3)
    assert found.total_s == 12.0
    assert not found.rate_is_measured
    assert estimate(recipe, tmp_path).views_per_s > 0


def test_it_is_printed_and_nothing_is_written(recipe: RawRecipe, tmp_path: Path) -> None:
    screen = io.StringIO()
    print_estimate(
        Recipe.model_validate(recipe), str(tmp_path / "out"), views_per_s=2.0, console=Console(file=screen, width=120)
    )
    assert "views/s, as given" in screen.getvalue()
    assert "0 min 24 s" in screen.getvalue()
    assert list(tmp_path.iterdir()) == []


def test_a_first_unit_without_a_usable_view_is_told(recipe: RawRecipe, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "0.png").write_bytes(b"no image")
    recipe["source"]["path"] = str(tmp_path / "images")
    with pytest.raises(UserError, match="no view in it can be attacked"):
        estimate(recipe, tmp_path / "out")


def test_a_rate_without_a_plan_is_refused() -> None:
    result = CliRunner().invoke(build_app(), ["generate", "recipe.yaml", "--out", "out", "--views-per-s", "3"])
    assert isinstance(result.exception, UserError)
    assert "goes with --plan" in str(result.exception)


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.9, "0 min 59 s"), (3600, "1 h 0 min"), (90_000, "1 d 1 h"), (8_640_000, "100 d 0 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(12, "12 B"), (115e9, "115 GB"), (2.5e12, "2.5 TB")])
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text
