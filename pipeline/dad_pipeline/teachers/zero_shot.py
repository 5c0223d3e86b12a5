"""Zero-shot teachers: class embeddings made once from prompts, the text tower dropped afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import open_clip
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from dad_datasets.errors import UserError
from dad_pipeline.checkpoint_file import weights_sha256
from dad_pipeline.teachers.open_clip_model import load_open_clip
from dad_pipeline.teachers.open_clip_settings import OpenClipZeroShotSettings
from dad_pipeline.teachers.pixel_input import PixelInput
from dad_pipeline.teachers.prompts import class_names as named_class_names
from dad_pipeline.teachers.prompts import prompt_templates
from dad_pipeline.teachers.teacher import Teacher


class ZeroShotClassifier(nn.Module):
    """exp(logit_scale) * <f, w_c> + logit_bias for unit-length image features f and class embeddings w_c.

    The embeddings' last bits depend on the machine, so the state dict, whose hash identifies the teacher, has in their
    place `text_digest`, the SHA-256 of the weights that made them.
    """

    embeddings: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(
        self,
        visual: nn.Module,
        embeddings: Float[Tensor, "d c"],
        *,
        text_digest: bytes,
        scale: Float[Tensor, ""],
        bias: Float[Tensor, ""],
    ) -> None:
        super().__init__()
        self.visual = visual
        self.register_buffer("embeddings", embeddings, persistent=False)
        self.register_buffer("text_digest", torch.tensor(list(text_digest), dtype=torch.uint8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        features = pooled_features(self.visual, images)
        # float32: a scale of 100 would turn bfloat16's rounding of a cosine into errors of 0.4 in the logits.
        with torch.autocast(features.device.type, enabled=False):
            features = F.normalize(features.float(), dim=-1)
            return self.scale.float() * (features @ self.embeddings.float()) + self.bias.float()


def pooled_features(visual: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
    """The image features of an open_clip visual tower; towers made with `output_tokens` (CoCa) give them first."""
    features = visual(images)
    return features[0] if isinstance(features, tuple) else features


def load_zero_shot(
    settings: OpenClipZeroShotSettings, *, class_names: Sequence[str] | None, device: torch.device
) -> Teacher:
    """The teacher on `device`, with prompts from the settings' class names, else from `class_names` (the dataset's).

    The text tower runs on `device` too: ImageNet's 80,000 prompts are 1 PFLOP for ViT-L/14, once in every process.

    Raises UserError where there are no class names, where the two lists differ in length, and for what
    `load_open_clip` refuses.
    """
    if settings.class_names is not None:
        prompted = named_class_names(settings.class_names)
        if class_names is not None and len(class_names) != len(prompted):
            raise UserError(
                f"teacher.class_names: {len(prompted)} names, but the dataset has {len(class_names)} classes"
            )
    elif class_names is not None:
        prompted = named_class_names(class_names)
    else:
        raise UserError("teacher.class_names: is required, because the dataset does not name its classes")
    loaded = load_open_clip(settings)
    text_digest = bytes.fromhex(weights_sha256(loaded.model))
    model = loaded.model.eval().requires_grad_(False).to(device)
    parameters = dict(model.named_parameters())
    logit_bias = parameters.get("logit_bias", torch.zeros((), device=device))
    classifier = ZeroShotClassifier(
        model.get_submodule("visual"),
        _class_embeddings(model, loaded.name, prompted, settings, device),
        text_digest=text_digest,
        scale=parameters["logit_scale"].detach().exp().reshape(()),
        bias=logit_bias.detach().reshape(()),
    )
    network = nn.Sequential(PixelInput(loaded.preprocessing).to(device), classifier)
    return Teacher(network, num_classes=len(prompted), preprocessing=str(loaded.preprocessing))


def _class_embeddings(
    model: nn.Module, name: str, class_names: Sequence[str], settings: OpenClipZeroShotSettings, device: torch.device
) -> Float[Tensor, "d c"]:
    try:
        tokenizer = open_clip.get_tokenizer(name)
    except ImportError as error:
        raise UserError(f"architecture {name}: its tokenizer needs a package that is not installed: {error}") from None
    templates = prompt_templates(settings.templates)
    return open_clip.build_zero_shot_classifier(model, tokenizer, class_names, templates, device=device)
