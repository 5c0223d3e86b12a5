"""recipes/robustness/finetune_teacher.py: the adversarial step, and the weights as they are stored."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from scripts import load_script
from torch import Tensor, nn

SCRIPT = Path(__file__).parent.parent / "recipes/robustness/finetune_teacher.py"
SIZE = 8


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))


def images() -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    return torch.randint(256, (6, 3, SIZE, SIZE), dtype=torch.uint8, generator=draws), torch.arange(6)


def gradients(model: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in model.parameters()]
    return [gradient for gradient in found if gradient is not None]


def test_an_attacked_image_lies_within_the_radius_along_the_gradient(script: ModuleType) -> None:
    torch.manual_seed(0)
    pixels, gradient = torch.full((500, 3, SIZE, SIZE), 0.5), torch.randn(500, 3, SIZE, SIZE)
    moved = (script.attacked(pixels, gradient, 0.5) - pixels).flatten(1)
    lengths = moved.norm(dim=1)
    assert lengths.max() <= 0.5 + 1e-6
    assert lengths.mean() == pytest.approx(0.25, abs=0.03)  # of all sizes up to the radius
    cosines = torch.cosine_similarity(moved, gradient.flatten(1))
    assert torch.allclose(cosines, torch.ones(500), atol=1e-4)


def test_an_attacked_image_stays_an_image_and_a_zero_gradient_moves_nothing(script: ModuleType) -> None:
    pixels = torch.rand(8, 3, SIZE, SIZE)
    moved = script.attacked(pixels, torch.randn_like(pixels), 50.0)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert torch.equal(script.attacked(pixels, torch.zeros_like(pixels), 0.5), pixels)


def test_a_step_raises_the_loss_of_the_images_that_it_attacks(script: ModuleType) -> None:
    model = network().eval()
    pixels, labels = images()
    clean = (pixels.float() / 255).requires_grad_()
    loss = nn.functional.cross_entropy(model(script.to_network(clean, SIZE)), labels)
    (gradient,) = torch.autograd.grad(loss, clean)
    harder = script.attacked(clean.detach(), gradient, 0.5)
    assert nn.functional.cross_entropy(model(script.to_network(harder, SIZE)), labels) > loss


def test_without_a_radius_the_gradient_is_that_of_the_images_alone(script: ModuleType) -> None:
    pixels, labels = images()
    plain, trained = network(), network()
    loss = nn.functional.cross_entropy(plain(script.to_network(pixels.float() / 255, SIZE)), labels)
    loss.backward()
    returned = script.backward(trained, pixels, labels, argparse.Namespace(size=SIZE, epsilon=0.0))
    assert returned == pytest.approx(float(loss.detach()))
    for expected, found in zip(gradients(plain), gradients(trained), strict=True):
        assert torch.allclose(expected, found)


def test_the_gradient_is_the_mean_of_both_images(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack replaced by a fixed other image, so that both losses can be computed apart."""
    pixels, labels = images()
    other = torch.rand(6, 3, SIZE, SIZE)
    monkeypatch.setattr(script, "attacked", lambda *_: other)
    plain, trained = network().eval(), network().eval()  # BatchNorm with fixed statistics
    both = (nn.functional.cross_entropy(plain(script.to_network(x, SIZE)), labels) for x in (pixels / 255, other))
    (sum(both, start=torch.zeros(())) / 2).backward()
    script.backward(trained, pixels, labels, argparse.Namespace(size=SIZE, epsilon=0.5))
    for expected, found in zip(gradients(plain), gradients(trained), strict=True):
        assert torch.allclose(expected, found, atol=1e-6)


def test_stored_weights_load_into_the_network_and_keep_its_vectors(script: ModuleType, tmp_path: Path) -> None:
    model, path = network(), tmp_path / "folder" / "teacher.safetensors"
    with torch.no_grad():
        model.get_buffer("1.running_var").fill_(1e6)  # more than float16 holds
    script.save(model, path)
    again = network()
    again.load_state_dict(load_file(path))
    for name, value in model.state_dict().items():
        expected = value.half().to(value.dtype) if value.ndim > 1 else value
        assert torch.equal(again.state_dict()[name], expected), name
    assert path.stat().st_size < 4 * sum(value.numel() for value in model.state_dict().values())
    assert [each.name for each in path.parent.iterdir()] == [path.name]
