"""A live teacher through the entry point, against the model behind it."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from dad_datasets.errors import UserError
from dad_trainer import live_teacher
from dad_trainer.live_teacher import GROUP, load_live_teacher

NAMES = ("cat", "dog", "ship")
CPU = torch.device("cpu")


def register(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    found = EntryPoints(EntryPoint(name="pipeline", group=GROUP, value=value) for value in values)
    monkeypatch.setattr(live_teacher, "entry_points", lambda group: found.select(group=group))


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "dad_pipeline.live_teacher:load_live_teacher")


def section(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """The teacher section of a recipe, with a checkpoint of a ResNet behind it."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=3)
    torch.save(model.state_dict(), tmp_path / "teacher.pt")
    checkpoint = str(tmp_path / "teacher.pt")
    return {"kind": "timm", "architecture": "resnet10t", "checkpoint": checkpoint, "image_size": 32, **changes}


@pytest.mark.usefixtures("_installed")
def test_the_logits_are_the_models(tmp_path: Path) -> None:
    raw = section(tmp_path, mean=[0.5] * 3, std=[0.5] * 3)
    teacher = load_live_teacher(raw, class_names=NAMES, num_classes=3, device=CPU)
    model = timm.create_model("resnet10t", num_classes=3, checkpoint_path=raw["checkpoint"]).eval()
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(teacher(pixels), model(pixels * 2 - 1))
    assert not teacher(pixels).requires_grad  # frozen


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"kind": "clip"}, "teacher.kind = 'clip': should be one of .*timm, ensemble"),
        ({"architectur": "resnet10t"}, "teacher.architectur: unknown field; did you mean architecture"),
        ({"checkpoint": "absent.pt"}, "absent.pt: no such file"),
    ],
)
def test_mistakes_in_the_section(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        load_live_teacher(section(tmp_path, **changes), class_names=NAMES, num_classes=3, device=CPU)


@pytest.mark.usefixtures("_installed")
def test_a_teacher_of_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="teacher: has 3 classes, but the data has 4"):
        load_live_teacher(section(tmp_path), class_names=None, num_classes=4, device=CPU)


def test_without_the_pipeline_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    with pytest.raises(
        UserError, match=r"needs the pipeline: pip install 'discrete-adversarial-distillation\[pipeline"
    ):
        load_live_teacher({}, class_names=None, num_classes=3, device=CPU)


def test_an_entry_point_whose_libraries_are_absent_names_the_one_and_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(monkeypatch, "absent_library.teachers:load")
    with pytest.raises(UserError, match=r"\(absent_library is missing\): pip install"):
        load_live_teacher({}, class_names=None, num_classes=3, device=CPU)
