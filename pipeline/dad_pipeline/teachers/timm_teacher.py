"""Any timm classifier with a checkpoint file, as a teacher; a student of `dad train` is one too."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from dad_datasets.errors import UserError
from dad_pipeline.checkpoint_file import read_state_dict
from dad_pipeline.teachers.input_settings import RANDOM
from dad_pipeline.teachers.mistakes import close_names, mismatched_keys
from dad_pipeline.teachers.pixel_input import PixelInput, Preprocessing, read_preprocessing
from dad_pipeline.teachers.settings import TimmSettings
from dad_pipeline.teachers.teacher import Teacher

ARCHITECTURES = "dad.architectures"
"""Entry points whose modules register further networks with timm: the trainer's own students."""


def load_timm(settings: TimmSettings, *, class_names: Sequence[str] | None) -> Teacher:
    """The teacher on the CPU, with as many classes as the checkpoint has, or as `class_names` where nothing is loaded.

    Raises UserError for an unknown architecture (with close names), a wrong `model_kwargs`, a checkpoint of another
    architecture or of another number of classes than `class_names`, and for what `read_state_dict` refuses.
    """
    for entry in entry_points(group=ARCHITECTURES):
        with suppress(ModuleNotFoundError):  # an extra's library is absent
            entry.load()
    if not timm.is_model(settings.architecture):
        hint = close_names(settings.architecture, timm.list_models())
        raise UserError(f"architecture = {settings.architecture!r}: timm has no such model{hint}")
    state = None if settings.checkpoint == RANDOM else read_state_dict(Path(settings.checkpoint))
    network = _create(settings, _num_classes(settings, state, class_names))
    num_classes = getattr(network, "num_classes", None)
    if not isinstance(num_classes, int):
        raise UserError(f"model_kwargs = {settings.model_kwargs}: make {settings.architecture} no classifier")
    if state is not None:
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            keys = mismatched_keys(str(error))
            message = f"{settings.checkpoint}: checkpoint of another architecture than {settings.architecture}: {keys}"
            raise UserError(message) from None
    if class_names is not None and num_classes != len(class_names):
        raise UserError(
            f"{settings.checkpoint}: has {num_classes} classes, but there are {len(class_names)} class names"
        )
    preprocessing = _preprocessing(network, settings)
    # For convolutions the faster layout: 1.3 to 1.8 times with an EfficientNet on a CPU, in float32.
    network.to(memory_format=torch.channels_last)
    network = nn.Sequential(PixelInput(preprocessing), network)
    return Teacher(network, num_classes=num_classes, preprocessing=str(preprocessing))


def _num_classes(
    settings: TimmSettings, state: dict[str, Tensor] | None, class_names: Sequence[str] | None
) -> int | None:
    """None leaves timm's own number; where a checkpoint has no classifier, loading refuses it anyway."""
    if state is None:
        return None if class_names is None else len(class_names)
    classifier = timm.get_pretrained_cfg(settings.architecture).classifier
    name = classifier if isinstance(classifier, str) else next(iter(classifier or ()), "")
    weight = state.get(f"{name}.weight", state.get(f"{name}.bias"))
    return None if weight is None else len(weight)


def _create(settings: TimmSettings, num_classes: int | None) -> nn.Module:
    arguments = dict(settings.model_kwargs)
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    if settings.image_size is not None and timm.get_pretrained_cfg(settings.architecture).fixed_input_size:
        arguments["img_size"] = settings.image_size  # its position embeddings are made for one size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed or 0)
        try:
            return timm.create_model(settings.architecture, pretrained=False, **arguments)
        except Exception as error:  # noqa: BLE001  # whatever a network of timm makes of arguments that are not its own
            reason = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else error
            message = f"model_kwargs = {settings.model_kwargs}: {settings.architecture} cannot be built: {reason}"
            raise UserError(message) from None


def _preprocessing(network: nn.Module, settings: TimmSettings) -> Preprocessing:
    config = timm.data.resolve_model_data_config(network)
    config = {**config, "size": config["input_size"][1:]}
    return read_preprocessing(config, settings, origin=f"timm's config of {settings.architecture}")
