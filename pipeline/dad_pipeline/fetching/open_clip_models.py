"""open_clip's own table of pretrained models, read as published weights."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from dad_pipeline.fetching.published import SAFETENSORS, PublishedFile, PublishedWeights

OPEN_CLIP = "open_clip:"


def open_clip_names() -> list[str]:
    """`open_clip:ARCHITECTURE/TAG` of every model, each under the architecture whose activation it was trained with."""
    import open_clip

    return [
        f"{OPEN_CLIP}{architecture}/{tag}"
        for architecture, tag in open_clip.list_pretrained()
        if _trained_architecture(architecture, tag) == architecture
    ]


def describe_open_clip(name: str) -> PublishedWeights | None:
    """The weights called `open_clip:ARCHITECTURE/TAG`; None where open_clip has no such model.

    An architecture without `-quickgelu` means the one with it where the weights were trained so: open_clip says nothing
    when a file is loaded into the other, and the model is quietly worse.
    """
    import open_clip

    asked, _, tag = name.removeprefix(OPEN_CLIP).partition("/")
    config: dict[str, Any] = open_clip.get_pretrained_cfg(asked, tag)
    if not config:
        return None
    architecture = _trained_architecture(asked, tag)
    url, hub_id = config["url"], config["hf_hub"]
    # The beginning of the hash stands in the names of open_clip's own files: ...-d867053b.pt
    sha256 = PurePosixPath(urlsplit(url).path).stem.rpartition("-")[2] if "mlfoundations" in url else None
    # Otherwise the hub, as open_clip itself: OpenAI's own files are TorchScript programs, which no recipe reads.
    addresses = (url,) if sha256 or not hub_id else _hub_addresses(hub_id)
    return PublishedWeights(
        name=f"{OPEN_CLIP}{architecture}/{tag}",
        what=f"CLIP, {open_clip.get_model_config(architecture)['vision_cfg']['image_size']} px",
        licence=_licence(tag, url),
        page=f"https://huggingface.co/{hub_id.rpartition('/')[0]}"
        if hub_id
        else "https://github.com/mlfoundations/open_clip",
        files=(
            PublishedFile(
                role="checkpoint",
                stem=f"{architecture}-{tag}",
                suffix=".pt",
                addresses=addresses,
                sha256=sha256,
                expects_safetensors=addresses[0].endswith(SAFETENSORS),
            ),
        ),
        teacher={"kind": "open_clip_zero_shot", "architecture": architecture, **_preprocessing(config)},
    )


def _trained_architecture(architecture: str, tag: str) -> str:
    import open_clip

    quick = f"{architecture}-quickgelu"
    wanted = open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", False)
    has = open_clip.get_model_config(architecture).get("quick_gelu", False)
    return quick if wanted and not has and quick in open_clip.list_models() else architecture


def _hub_addresses(hub_id: str) -> tuple[str, ...]:
    """`organisation/model/` means open_clip's default file names, safetensors first; else the file is named."""
    from huggingface_hub import hf_hub_url  # knows HF_ENDPOINT, the hub's mirrors
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    model, _, filename = hub_id.rpartition("/")
    names = (filename,) if filename else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    return tuple(hf_hub_url(model, name) for name in names)


def _licence(tag: str, url: str) -> str:
    if tag == "openai":
        return "none stated for the weights (openai/CLIP's code: MIT)"
    if "mlfoundations" in url:
        return "MIT (mlfoundations/open_clip, issue 177)"
    return "its model card's"


def _preprocessing(config: dict[str, Any]) -> dict[str, object]:
    """What the recipe must say because a bare file cannot: the parts that are not open_clip's defaults."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    defaults = {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD, "interpolation": "bicubic"}
    different = {field: config[field] for field, default in defaults.items() if config[field] != default}
    return {field: list(value) if isinstance(value, tuple) else value for field, value in different.items()}
