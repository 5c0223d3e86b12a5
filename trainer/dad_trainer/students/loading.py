"""A trained student from its checkpoint, for evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dad_datasets.errors import UserError
from dad_datasets.settings import build_settings
from dad_trainer.students.settings import Rgb, StudentSettings
from dad_trainer.students.student import Student, assemble_student, classifier_names
from dad_trainer.students.weights_file import WeightsFile, read_weights


def load_student(
    checkpoint: Path,
    *,
    architecture: str | None = None,
    num_classes: int | None = None,
    mean: Rgb | None = None,
    std: Rgb | None = None,
    image_size: int | None = None,
    use_ema: bool = True,
) -> Student:
    """The student in eval mode on the CPU. What is given goes before what the checkpoint says.

    Our checkpoints say everything under `student`, `num_classes` and `class_names`, and under `image_size` the size of
    the images that the student was trained on, with which it is fed. In others the architecture is read
    from timm's `arch`, or must be given (safetensors and bare state dicts), and the classifier says the number of
    classes. `use_ema` prefers averaged weights where there are any.

    Raises UserError for what `read_weights` refuses, an architecture that is unknown or neither given nor said, weights
    that do not fit it, and another number of classes than `num_classes`.
    """
    file = read_weights(checkpoint, use_ema=use_ema)
    given = {"architecture": architecture, "mean": mean, "std": std, "image_size": image_size}
    settings = _settings(file, {name: value for name, value in given.items() if value is not None})
    found = _num_classes(file, settings.architecture)
    if num_classes is not None and found is not None and num_classes != found:
        raise UserError(f"checkpoint {checkpoint}: has {found} classes, expected {num_classes}")
    count = found or num_classes
    if count is None:
        raise UserError(f"checkpoint {checkpoint}: holds no classifier of {settings.architecture}; give num_classes")
    student = assemble_student(settings, file, num_classes=count)
    student.model.eval()
    names = file.beside.get("class_names")
    return replace(student, class_names=tuple(map(str, names)) if isinstance(names, list | tuple) else None)


def _settings(file: WeightsFile, given: Mapping[str, object]) -> StudentSettings:
    said = file.beside.get("student")
    raw = {**(said if isinstance(said, Mapping) else {"architecture": file.beside.get("arch")}), **given}
    if not isinstance(raw.get("architecture"), str):
        raise UserError(f"checkpoint {file.path}: does not say its architecture; give one (a timm model name)")
    if raw.get("image_size") is None:
        raw["image_size"] = file.beside.get("image_size")
    raw["reset_head"] = False  # said of the file that the student started from, not of this one
    return build_settings(StudentSettings, raw, origin=f"checkpoint {file.path}: student")


def _num_classes(file: WeightsFile, architecture: str) -> int | None:
    for name in classifier_names(architecture):
        for part in ("weight", "bias"):
            if (value := file.weights.get(f"{name}.{part}")) is not None:
                return len(value)
    return None
