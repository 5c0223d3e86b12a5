"""The teacher as the trainer finds it, through the entry point group `dad.teachers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dad_datasets.settings import Settings, build_settings
from dad_pipeline.teachers import Teacher, TeacherSettings, load_teacher


class _TeacherSection(Settings):
    teacher: TeacherSettings


def load_live_teacher(raw: Mapping[str, Any], *, class_names: Sequence[str] | None, device: torch.device) -> Teacher:
    """The frozen teacher in float32 on `device` from the `teacher` section of a recipe.

    Raises UserError for every mistake in the section or in the files that it names.
    """
    section = build_settings(_TeacherSection, {"teacher": dict(raw)}, origin="recipe")
    return load_teacher(section.teacher, class_names=class_names, device=device)
