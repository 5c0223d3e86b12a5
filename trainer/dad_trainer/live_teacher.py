"""A live teacher in place of the stored logits, as a baseline: found through an entry point of the pipeline's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dad_datasets.errors import UserError

GROUP = "dad.teachers"
INSTALL = "pip install 'discrete-adversarial-distillation[pipeline]'"


@runtime_checkable
class LiveTeacher(Protocol):
    """Pixels in [0,1] to logits, resize and normalisation inside; frozen. Call it under `torch.no_grad()`."""

    num_classes: int

    def __call__(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]: ...


class LoadLiveTeacher(Protocol):
    """What stands behind an entry point of GROUP: from the `teacher` section of a recipe to the teacher on `device`."""

    def __call__(
        self, raw: Mapping[str, Any], *, class_names: Sequence[str] | None, device: torch.device
    ) -> LiveTeacher: ...


def load_live_teacher(
    raw: Mapping[str, Any], *, class_names: Sequence[str] | None, num_classes: int, device: torch.device
) -> LiveTeacher:
    """The teacher of a recipe's `teacher` section.

    UserError where none is installed, where its own loader refuses the section, and where its number of classes is not
    that of the data.
    """
    teacher = _installed_loader()(raw, class_names=class_names, device=device)
    if teacher.num_classes != num_classes:
        raise UserError(f"teacher: has {teacher.num_classes} classes, but the data has {num_classes}")
    return teacher


def _installed_loader() -> LoadLiveTeacher:
    entry = next(iter(entry_points(group=GROUP)), None)
    if entry is None:
        raise UserError(f"a live teacher needs the pipeline: {INSTALL}")
    try:
        loader: LoadLiveTeacher = entry.load()
    except ModuleNotFoundError as error:  # registered by the distribution, but its extra's libraries are absent
        raise UserError(f"a live teacher needs the pipeline ({error.name} is missing): {INSTALL}") from None
    return loader
