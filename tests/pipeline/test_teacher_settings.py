"""The teacher section of a recipe: what is accepted, and what each mistake is called."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field

from dad_datasets.errors import UserError
from dad_datasets.settings import Settings, build_settings
from dad_pipeline.teachers import TeacherSettings
from dad_pipeline.teachers.prompts import class_names, prompt_templates


class Recipe(Settings):
    teacher: TeacherSettings = Field(discriminator="kind")


def recipe(**teacher: Any) -> Recipe:
    return build_settings(Recipe, {"teacher": teacher}, origin="recipe")


ZERO_SHOT: dict[str, Any] = {"kind": "open_clip_zero_shot", "architecture": "ViT-B-32", "pretrained": "weights.pt"}
LINEAR: dict[str, Any] = {"kind": "open_clip_linear", "architecture": "ViT-B-32"}
TIMM: dict[str, Any] = {"kind": "timm", "architecture": "resnet18", "checkpoint": "weights.pt"}


@pytest.mark.parametrize(
    "teacher",
    [
        ZERO_SHOT,
        {**ZERO_SHOT, "templates": "simple", "class_names": "imagenet", "image_size": 336},
        {**ZERO_SHOT, "templates": ["a photo of a {}."], "class_names": ["cat", "dog"]},
        {**ZERO_SHOT, "pretrained": "random", "seed": 0},
        {"kind": "open_clip_zero_shot", "pretrained": "local-dir:/models/clip"},
        {**LINEAR, "pretrained": "weights.pt", "head": "head.pt", "logit_scale": 100, "normalize_features": False},
        {**LINEAR, "checkpoint": "fine-tuned.pt"},
        {**LINEAR, "pretrained": "random", "seed": 3},
        {**TIMM, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear"},
        {**TIMM, "checkpoint": "random", "seed": 3, "model_kwargs": {"drop_path_rate": 0.1, "layers": [1, 1]}},
        {"kind": "ensemble", "members": [ZERO_SHOT, TIMM], "weights": [2, 1]},
    ],
)
def test_accepted_and_unchanged_by_a_dump(teacher: dict[str, Any]) -> None:
    built = recipe(**teacher)
    assert build_settings(Recipe, built.model_dump(mode="json"), origin="recipe") == built


@pytest.mark.parametrize(
    ("teacher", "complaint"),
    [
        ({"kind": "clip"}, "open_clip_zero_shot"),
        ({**ZERO_SHOT, "pretrained": None}, "pretrained: is required"),
        ({**ZERO_SHOT, "architecture": None}, "architecture: is required"),
        ({**ZERO_SHOT, "pretrained": "local-dir:/models/clip"}, "leave it out"),
        ({**ZERO_SHOT, "pretrained": "random"}, "seed: goes with pretrained: random"),
        ({**ZERO_SHOT, "seed": 1}, "seed: goes with pretrained: random"),
        ({**ZERO_SHOT, "templates": "imagenet"}, "allowed: openai_imagenet, simple"),
        ({**ZERO_SHOT, "templates": ["a photo"]}, "'a photo' must hold {} once"),
        ({**ZERO_SHOT, "templates": ["{} or {}"]}, "must hold {} once"),
        ({**ZERO_SHOT, "templates": ["a {} of {name}"]}, "no other brace"),
        ({**ZERO_SHOT, "templates": []}, "empty"),
        ({**ZERO_SHOT, "templates": 3}, "a name or a list of texts"),
        ({**ZERO_SHOT, "class_names": "cifar"}, "allowed: imagenet"),
        ({**ZERO_SHOT, "class_names": ["cat", " "]}, "empty"),
        ({**ZERO_SHOT, "std": [0, 1, 1]}, "greater than 0"),
        ({**ZERO_SHOT, "image_size": 0}, "greater than 0"),
        ({**LINEAR, "pretrained": "weights.pt"}, "either pretrained and head, or checkpoint"),
        ({**LINEAR, "pretrained": "w.pt", "head": "h.pt", "checkpoint": "c.pt"}, "either pretrained and head"),
        ({**LINEAR, "head": "h.pt"}, "either pretrained and head"),
        ({**TIMM, "seed": 1}, "seed: goes with checkpoint: random"),
        ({**TIMM, "model_kwargs": {"num_classes": 3}}, "model_kwargs.num_classes"),
        ({**TIMM, "interpolation": "lanczos"}, "bilinear"),
        ({"kind": "ensemble", "members": []}, "at least 1"),
        ({"kind": "ensemble", "members": [TIMM], "weights": [1, 2]}, "2 given for 1 members"),
        ({"kind": "ensemble", "members": [TIMM], "weights": [0]}, "greater than 0"),
    ],
)
def test_refused_in_one_line(teacher: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe(**teacher)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_named_sets() -> None:
    assert len(prompt_templates("openai_imagenet")) == 80
    assert len(prompt_templates("simple")) == 7
    names = class_names("imagenet")
    assert len(names) == 1000
    assert (names[0], names[207], names[999]) == ("tench", "Golden Retriever", "toilet paper")
