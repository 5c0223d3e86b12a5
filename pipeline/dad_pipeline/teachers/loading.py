"""From a recipe's teacher section to a teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dad_pipeline.teachers.ensemble import make_ensemble
from dad_pipeline.teachers.open_clip_linear import load_linear
from dad_pipeline.teachers.open_clip_settings import OpenClipLinearSettings, OpenClipZeroShotSettings
from dad_pipeline.teachers.settings import EnsembleSettings, TeacherSettings, TimmSettings
from dad_pipeline.teachers.teacher import Teacher
from dad_pipeline.teachers.timm_teacher import load_timm
from dad_pipeline.teachers.zero_shot import load_zero_shot


def load_teacher(settings: TeacherSettings, *, class_names: Sequence[str] | None, device: torch.device) -> Teacher:
    """The teacher in float32 on `device`. `class_names` are the dataset's, in label order; None where it has none.

    Raises UserError for every mistake in the recipe or in the files that it names.
    """
    return _load(settings, class_names, device).to(device)


def _load(settings: TeacherSettings, class_names: Sequence[str] | None, device: torch.device) -> Teacher:
    match settings:
        case OpenClipZeroShotSettings():
            return load_zero_shot(settings, class_names=class_names, device=device)
        case OpenClipLinearSettings():
            return load_linear(settings, class_names=class_names)
        case TimmSettings():
            return load_timm(settings, class_names=class_names)
        case EnsembleSettings():
            members = [_load(member, class_names, device) for member in settings.members]
            return make_ensemble(members, settings.weights)
