"""Building an open_clip model from a recipe, with its weights or not at all, and every mistake told in one sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from safetensors import SafetensorError
from torch import nn

from dad_datasets.errors import UserError
from dad_pipeline.checkpoint_file import UNREADABLE
from dad_pipeline.teachers.input_settings import RANDOM
from dad_pipeline.teachers.mistakes import close_names, mismatched_keys, up_to_three
from dad_pipeline.teachers.open_clip_settings import OWN_CONFIG_PREFIXES, OpenClipSettings
from dad_pipeline.teachers.pixel_input import Preprocessing, read_preprocessing

CONFIG_KEYS = ("embed_dim", "vision_cfg", "text_cfg")


@dataclass(frozen=True, kw_only=True)
class OpenClipModel:
    """A loaded model, the name by which open_clip finds its tokenizer, and its preprocessing."""

    model: nn.Module
    name: str
    preprocessing: Preprocessing


def load_open_clip(settings: OpenClipSettings, *, load_weights: bool = True) -> OpenClipModel:
    """The model on the CPU in float32. `load_weights=False` leaves it random, for a caller that fills it in.

    Raises UserError for an unknown architecture or tag, a missing or unreadable file, and weights that do not fit.
    """
    source = settings.pretrained
    if source is not None and source.startswith(OWN_CONFIG_PREFIXES):
        name, pretrained, origin = source, None, f"the config of {source}"
    else:
        assert settings.architecture is not None
        name, pretrained = _register(settings.architecture), source
        is_tag = pretrained is not None and bool(open_clip.get_pretrained_cfg(name, pretrained))
        origin = f"open_clip's tag {pretrained}" if is_tag else "open_clip's defaults (the checkpoint does not say)"
    load_weights = load_weights and source != RANDOM
    if load_weights and pretrained is not None:
        _check_source(name, pretrained)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed or 0)
        model = _create(name, pretrained if load_weights else None, load_weights, settings.image_size)
    config = open_clip.get_model_preprocess_cfg(model)
    return OpenClipModel(model=model, name=name, preprocessing=read_preprocessing(config, settings, origin=origin))


def _create(name: str, pretrained: str | None, load_weights: bool, image_size: int | None) -> nn.Module:
    try:
        return open_clip.create_model(
            name,
            pretrained,
            load_weights=load_weights,
            require_pretrained=load_weights,
            pretrained_text=False,
            force_image_size=image_size,
            weights_only=True,
        )
    except (*UNREADABLE, OSError, SafetensorError, StopIteration) as error:
        where = pretrained or name
        if keys := mismatched_keys(str(error)):
            raise UserError(f"{where}: checkpoint of another architecture than {name}: {keys}") from None
        raise UserError(f"{where}: open_clip cannot load it: {_first_line(error)}") from None
    except ImportError as error:
        raise UserError(f"architecture {name}: needs a package that is not installed: {error}") from None


def _register(architecture: str) -> str:
    """The name of a built-in model, or of a JSON config after making it known to open_clip's process-wide registry."""
    if not architecture.endswith(".json"):
        if architecture not in open_clip.list_models():
            hint = close_names(architecture, open_clip.list_models())
            raise UserError(f"architecture = {architecture!r}: open_clip has no such model{hint}")
        return architecture
    path = Path(architecture)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"architecture {path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise UserError(f"architecture {path}: is not valid JSON") from None
    missing = [key for key in CONFIG_KEYS if not isinstance(config, dict) or key not in config]
    if missing:
        raise UserError(f"architecture {path}: not an open_clip model config, it lacks {', '.join(missing)}")
    if (Path(open_clip.__file__).parent / "model_configs" / path.name).exists():
        raise UserError(f"architecture {path}: a built-in open_clip model has the name {path.stem}; rename the file")
    open_clip.add_model_config(path)  # a later config of the same name replaces an earlier one
    return path.stem


def _check_source(name: str, pretrained: str) -> None:
    """Refuses what open_clip would answer with a stack trace, a long download, or only a warning."""
    tag = open_clip.get_pretrained_cfg(name, pretrained)
    if not tag and not Path(pretrained).is_file():
        tags = up_to_three(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise UserError(f"pretrained = {pretrained!r}: no such file, and no tag of {name} (tags: {tags})")
    quick, model_is_quick = f"{name}-quickgelu", open_clip.get_model_config(name).get("quick_gelu", False)
    if tag.get("quick_gelu", False) and not model_is_quick and quick in open_clip.list_models():
        raise UserError(f"architecture = {name}: the weights {pretrained} were trained with QuickGELU; use {quick}")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
