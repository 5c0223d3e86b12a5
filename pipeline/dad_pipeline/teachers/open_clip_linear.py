"""open_clip's visual tower under a linear classifier: the paper's teacher, CLIP with a fine-tuned zero-shot head."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dad_datasets.errors import UserError
from dad_pipeline.checkpoint_file import read_state_dict
from dad_pipeline.teachers.mistakes import mismatched_keys
from dad_pipeline.teachers.open_clip_model import load_open_clip
from dad_pipeline.teachers.open_clip_settings import OpenClipLinearSettings
from dad_pipeline.teachers.pixel_input import PixelInput
from dad_pipeline.teachers.teacher import Teacher
from dad_pipeline.teachers.zero_shot import pooled_features


class LinearClassifier(nn.Module):
    """head(scale * f), f the image features, of unit length where `normalize` says so."""

    def __init__(self, visual: nn.Module, head: nn.Linear, *, normalize: bool, scale: float) -> None:
        super().__init__()
        self.visual = visual
        self.head = head
        self.normalize = normalize
        self.scale = scale

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        features = pooled_features(self.visual, images)
        with torch.autocast(features.device.type, enabled=False):  # float32, as in the zero-shot classifier
            features = F.normalize(features.float(), dim=-1) if self.normalize else features.float()
            bias = None if self.head.bias is None else self.head.bias.float()
            return F.linear(self.scale * features, self.head.weight.float(), bias)


def load_linear(settings: OpenClipLinearSettings, *, class_names: Sequence[str] | None) -> Teacher:
    """The teacher on the CPU: a published tower and a head file, one fine-tuned file, or random weights.

    Raises UserError for a checkpoint of another architecture, for a head that does not fit the tower or the number of
    classes, and for what `load_open_clip` refuses.
    """
    loaded = load_open_clip(settings, load_weights=settings.checkpoint is None)
    visual = loaded.model.get_submodule("visual")
    with torch.no_grad():
        height, width = loaded.preprocessing.image_size
        num_features = pooled_features(visual.eval(), torch.zeros(1, 3, height, width)).shape[1]
    if settings.checkpoint is not None:
        state = read_state_dict(settings.checkpoint)
        _load_tower(visual, _below(state, "visual."), settings.checkpoint)
        head = _head(_below(state, "head."), num_features, settings.checkpoint)
    elif settings.head is not None:
        head = _head(read_state_dict(settings.head), num_features, settings.head)
    else:
        head = _random_head(num_features, class_names, settings.seed or 0)
    if class_names is not None and head.out_features != len(class_names):
        raise UserError(
            f"teacher: the head has {head.out_features} classes, but there are {len(class_names)} class names"
        )
    classifier = LinearClassifier(visual, head, normalize=settings.normalize_features, scale=settings.logit_scale)
    network = nn.Sequential(PixelInput(loaded.preprocessing), classifier)
    return Teacher(network, num_classes=head.out_features, preprocessing=str(loaded.preprocessing))


def _below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _load_tower(visual: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    try:
        visual.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{path}: checkpoint of another architecture: {mismatched_keys(str(error))}") from None


def _head(state: dict[str, Tensor], num_features: int, path: Path) -> nn.Linear:
    weight, bias = state.get("weight"), state.get("bias")
    if weight is None or weight.ndim != 2:
        raise UserError(
            f"{path}: a head needs a matrix `weight` [classes, features]; found {', '.join(state) or 'none'}"
        )
    if weight.shape[1] != num_features:
        raise UserError(f"{path}: the head takes {weight.shape[1]} features, but the tower gives {num_features}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise UserError(f"{path}: the head's bias has shape {list(bias.shape)}, expected [{weight.shape[0]}]")
    head = nn.Linear(num_features, weight.shape[0], bias=bias is not None)
    head.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return head


def _random_head(num_features: int, class_names: Sequence[str] | None, seed: int) -> nn.Linear:
    if class_names is None:
        raise UserError(
            "teacher: a random head needs class names, because nothing else says how many classes there are"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(num_features, len(class_names))
