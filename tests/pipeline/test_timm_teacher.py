"""timm teachers, against the model and the transform that timm itself builds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pydantic import TypeAdapter
from torch import nn

from dad_datasets.errors import UserError
from dad_pipeline.teachers import Teacher, TeacherSettings, load_teacher
from dad_trainer.students import StudentSettings, build_student, normalise

NAMES = ("cat", "dog", "ship")
ARCHITECTURE = "resnet10t"


def load(dataset_names: Sequence[str] | None = NAMES, **settings: Any) -> Teacher:
    validated: TeacherSettings = TypeAdapter(TeacherSettings).validate_python({"kind": "timm", **settings})
    return load_teacher(validated, class_names=dataset_names, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    created: nn.Module = timm.create_model(ARCHITECTURE, num_classes=3).eval()
    return created


@pytest.fixture(scope="module")
def checkpoint(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("timm") / "checkpoint.pth.tar"
    torch.save({"arch": ARCHITECTURE, "state_dict": model.state_dict(), "epoch": 1}, path)
    return str(path)


@pytest.mark.parametrize("class_names", [NAMES, None])
def test_equals_timm(model: nn.Module, checkpoint: str, class_names: Sequence[str] | None) -> None:
    pixels = torch.rand(2, 3, 64, 64)
    config = {**timm.data.resolve_model_data_config(model), "crop_pct": 1.0}
    transform = timm.data.create_transform(**config, is_training=False)
    teacher = load(class_names, architecture=ARCHITECTURE, checkpoint=checkpoint)
    with torch.no_grad():
        expected = model(torch.stack([transform(image) for image in pixels]))
    assert teacher.num_classes == 3
    assert torch.allclose(teacher(pixels), expected, atol=1e-5)
    assert "resize to 176x176 bicubic, mean (0.485, 0.456, 0.406)" in teacher.preprocessing


IN_A_PROCESS_WITHOUT_THE_TRAINER = """
import sys, torch
from dad_pipeline.teachers import load_teacher
from dad_pipeline.teachers.settings import TimmSettings

assert "dad_trainer.students" not in sys.modules
checkpoint, pixels, logits = sys.argv[1:]
settings = TimmSettings(kind="timm", architecture="cifar_resnet20", checkpoint=checkpoint)
teacher = load_teacher(settings, class_names=None, device=torch.device("cpu"))
with torch.no_grad():
    torch.save(teacher(torch.load(pixels)), logits)
"""


def test_a_students_checkpoint_is_a_teacher_that_answers_alike(tmp_path: Path) -> None:
    student = build_student(StudentSettings(architecture="cifar_resnet20"), num_classes=3)
    student.model.eval()
    torch.save({"state_dict": student.model.state_dict()}, tmp_path / "last.pt")
    pixels = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    torch.save(pixels / 255, tmp_path / "pixels.pt")
    files = [str(tmp_path / name) for name in ("last.pt", "pixels.pt", "logits.pt")]
    subprocess.run([sys.executable, "-c", IN_A_PROCESS_WITHOUT_THE_TRAINER, *files], check=True)
    with torch.no_grad():
        expected = student.model(normalise(pixels, student.mean, student.std))
    assert torch.allclose(torch.load(tmp_path / "logits.pt"), expected, atol=1e-5)


def test_recipe_overrides_the_preprocessing(model: nn.Module, checkpoint: str) -> None:
    pixels = torch.rand(2, 3, 32, 32)
    half = [0.5, 0.5, 0.5]
    teacher = load(architecture=ARCHITECTURE, checkpoint=checkpoint, image_size=32, mean=half, std=half)
    with torch.no_grad():
        assert torch.allclose(teacher(pixels), model(pixels * 2 - 1), atol=1e-5)
    assert teacher.preprocessing.endswith("from the recipe: image_size, mean, std")


def test_image_size_builds_a_vision_transformer_for_it() -> None:
    random: dict[str, Any] = {"architecture": "test_vit", "checkpoint": "random", "seed": 1, "image_size": 48}
    teacher = load(**random, model_kwargs={"drop_path_rate": 0.1})
    pixels = torch.rand(2, 3, 32, 32, requires_grad=True)
    logits = teacher(pixels)
    assert torch.equal(logits, load(**random)(pixels))
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), pixels)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"architecture": "resnet10"}, "timm has no such model; close names: resnet10t"),
        ({"architecture": "resnet18"}, "another architecture than resnet18: .* and .* more"),
        ({"checkpoint": "missing.pt"}, "missing.pt"),
        ({"model_kwargs": {"wings": 2}}, "model_kwargs = .*'wings': 2.*cannot be built"),
        ({"model_kwargs": {"act_layer": "foo"}}, "model_kwargs = .*cannot be built: KeyError: 'foo'"),
        ({"model_kwargs": {"block": "x"}}, "model_kwargs = .*cannot be built: 'str' object"),
        ({"model_kwargs": {"features_only": True}, "checkpoint": "random", "seed": 0}, "make resnet10t no classifier"),
    ],
)
def test_mistakes(checkpoint: str, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        load(**{"architecture": ARCHITECTURE, "checkpoint": checkpoint, **change})


def test_names_of_another_number(checkpoint: str) -> None:
    with pytest.raises(UserError, match="has 3 classes, but there are 2 class names"):
        load(("cat", "dog"), architecture=ARCHITECTURE, checkpoint=checkpoint)


def test_a_filter_that_the_resize_has_not(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"input_size": (3, 32, 32), "mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": "nearest"}
    monkeypatch.setattr(timm.data, "resolve_model_data_config", lambda model: config)
    settings: dict[str, Any] = {"architecture": ARCHITECTURE, "checkpoint": checkpoint}
    with pytest.raises(UserError, match="resizes with 'nearest'; set interpolation to bilinear or bicubic"):
        load(**settings)
    assert "32x32 bilinear" in load(**settings, interpolation="bilinear").preprocessing


def test_checkpoint_without_a_classifier(model: nn.Module, tmp_path: Path) -> None:
    torch.save({k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}, tmp_path / "body.pt")
    with pytest.raises(UserError, match=r"another architecture than resnet10t: fc\.weight, fc\.bias"):
        load(architecture=ARCHITECTURE, checkpoint=str(tmp_path / "body.pt"))
