"""A student: a plain timm network, and the normalisation of its pixels."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import timm
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dad_datasets.errors import UserError
from dad_trainer.students.fitting import load_weights
from dad_trainer.students.settings import Rgb, StudentSettings
from dad_trainer.students.weights_file import WeightsFile, read_weights


@dataclass(frozen=True, kw_only=True)
class Student:
    """`image_size` is the side in pixels that the network is to be fed with; None where it takes any."""

    model: nn.Module
    mean: Rgb
    std: Rgb
    architecture: str
    num_classes: int
    image_size: int | None
    class_names: tuple[str, ...] | None = None


def build_student(settings: StudentSettings, *, num_classes: int, seed: int = 0) -> Student:
    """The student on the CPU in float32, its random weights drawn from `seed` alone, its checkpoint loaded.

    Raises UserError for an unknown architecture (with close names), options that it does not take, and a checkpoint
    that is unreadable or does not fit.
    """
    file = None if settings.checkpoint is None else read_weights(Path(settings.checkpoint))
    return assemble_student(settings, file, num_classes=num_classes, seed=seed)


def assemble_student(
    settings: StudentSettings, file: WeightsFile | None, *, num_classes: int, seed: int = 0
) -> Student:
    """`build_student` with the weights of a file that is read already."""
    config = architecture_config(settings.architecture)
    network = _create(settings, num_classes, seed=seed, fixed_size=config.fixed_input_size)
    if file is not None:
        load_weights(network, file, classifiers=classifier_names(settings.architecture), reset_head=settings.reset_head)
    default = timm.data.resolve_model_data_config(network)
    return Student(
        model=network,
        mean=settings.mean or tuple(default["mean"]),
        std=settings.std or tuple(default["std"]),
        architecture=settings.architecture,
        num_classes=num_classes,
        image_size=settings.image_size or (config.input_size[-1] if config.fixed_input_size else None),
    )


def architecture_config(architecture: str) -> timm.models.PretrainedCfg:
    """timm's configuration of a model. UserError where timm has no such model, or not that tag of it."""
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; close names: {', '.join(close)}" if close else ""
        raise UserError(f"student.architecture = {architecture!r}: timm has no such model{hint}")
    try:
        return timm.get_pretrained_cfg(architecture)
    except RuntimeError:
        known = ", ".join(timm.list_pretrained(f"{architecture.partition('.')[0]}.*")) or "none"
        raise UserError(f"student.architecture = {architecture!r}: timm has no such tag; it has {known}") from None


def classifier_names(architecture: str) -> tuple[str, ...]:
    """Names of the modules that depend on the number of classes."""
    names = architecture_config(architecture).classifier
    return (names,) if isinstance(names, str) else tuple(names or ())


def normalise(pixels: UInt8[Tensor, "n 3 h w"], mean: Rgb, std: Rgb) -> Float[Tensor, "n 3 h w"]:
    """(pixels / 255 - mean) / std, float32, in the memory layout of `pixels`."""
    return (pixels.float() / 255 - _per_channel(mean, pixels.device)) / _per_channel(std, pixels.device)


@lru_cache(maxsize=16)  # a copy to the GPU in every step would wait for it
def _per_channel(values: Sequence[float], device: torch.device) -> Float[Tensor, "1 3 1 1"]:
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)


def _create(settings: StudentSettings, num_classes: int, *, seed: int, fixed_size: bool) -> nn.Module:
    arguments: dict[str, object] = {**settings.options, "num_classes": num_classes}
    for name in ("drop_rate", "drop_path_rate"):
        if getattr(settings, name) is not None:
            arguments[name] = getattr(settings, name)
    if settings.image_size is not None and fixed_size:
        arguments["img_size"] = settings.image_size  # its position embeddings are made for one size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(settings.architecture, pretrained=False, **arguments)
        except Exception as error:  # noqa: BLE001  # whatever a network of timm makes of arguments that are not its own
            reason = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else error
            raise UserError(f"student: {settings.architecture} cannot be built with {arguments}: {reason}") from None
