"""Quantizers on disk: the published taming and latent-diffusion checkpoints, and our own safetensors + JSON folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.settings import Settings, build_settings, read_recipe
from dad_pipeline.checkpoint_file import read_state_dict
from dad_pipeline.quantizer import Quantizer, QuantizerArchitecture

WEIGHTS_NAME = "quantizer.safetensors"
CONFIG_NAME = "quantizer.json"

# The last part of `model.target` in the YAML files of taming-transformers and latent-diffusion.
KIND_OF_TARGET = {"VQModel": "vq", "VQModelInterface": "vq", "VQNoDiscModel": "vq", "GumbelVQ": "gumbel"}

# Training leftovers in published checkpoints: the perceptual loss and discriminator, and latent-diffusion's averages.
DROPPED_PREFIXES = ("loss.", "model_ema.")


class QuantizerSettings(Settings):
    """Which VQGAN to load."""

    checkpoint: Path = Field(
        ...,
        description=f"A taming or latent-diffusion .ckpt, a .safetensors file, or a folder with {WEIGHTS_NAME}.",
    )
    config: Path | None = Field(
        None,
        description=f"The checkpoint's YAML file; by default the .json file beside a .safetensors ({CONFIG_NAME}).",
    )


def load_quantizer(settings: QuantizerSettings, *, device: torch.device) -> Quantizer:
    """The quantizer of a checkpoint in evaluation mode, frozen, float32.

    UserError where a file is missing or corrupt, the config is not that of a VQGAN, or the weights do not fit it.
    """
    checkpoint = settings.checkpoint / WEIGHTS_NAME if settings.checkpoint.is_dir() else settings.checkpoint
    if not checkpoint.is_file():
        raise UserError(f"quantizer.checkpoint: no such file: {checkpoint}")
    config = settings.config
    if config is None and checkpoint.suffix == ".safetensors":
        config = checkpoint.with_suffix(".json")
    if config is None:
        raise UserError(f"quantizer.config: is required with {checkpoint}, the YAML file published beside it")
    architecture = read_architecture(config)
    weights = {
        name: value for name, value in read_state_dict(checkpoint).items() if not name.startswith(DROPPED_PREFIXES)
    }
    with torch.device("meta"):  # no random initialisation: it is slow, and it would move the caller's random state
        quantizer = Quantizer(architecture)
    _check_fit(quantizer, weights, checkpoint, config)
    quantizer.to_empty(device=device).load_state_dict(weights)
    return quantizer.eval().requires_grad_(False)


def save_quantizer(quantizer: Quantizer, folder: Path) -> None:
    """Write `quantizer` to `folder` as safetensors and JSON, each file atomically, the JSON last."""
    weights = {name: value.detach().cpu().contiguous() for name, value in quantizer.state_dict().items()}
    target = LocalFolder(folder)
    with target.publish(WEIGHTS_NAME) as stream:
        stream.write(save(weights))
    with target.publish(CONFIG_NAME) as stream:
        stream.write(json.dumps(quantizer.architecture.model_dump(), indent=2).encode() + b"\n")


def read_architecture(path: Path) -> QuantizerArchitecture:
    """The architecture in a taming or latent-diffusion YAML file or in our JSON file; UserError where it is neither."""
    raw = read_recipe(path, origin="quantizer config")
    origin = f"quantizer config {path}"
    if path.suffix == ".json":  # JSON is YAML
        return build_settings(QuantizerArchitecture, raw, origin=origin)
    model = _section(raw, "model", origin)
    target = str(model.get("target", ""))
    kind = KIND_OF_TARGET.get(target.rpartition(".")[2])
    if kind is None:
        raise UserError(f"{origin}: model.target = {target!r}: expected one of {', '.join(KIND_OF_TARGET)}")
    params = _section(model, "params", origin)
    network = _section(params, "ddconfig", origin)
    fixed: tuple[tuple[dict[str, Any], str, object, object], ...] = (
        (network, "double_z", False, True),  # taming's encoder doubles its channels by default, for a KL autoencoder
        (network, "in_channels", 3, None),
        (network, "out_ch", 3, None),
        (params, "remap", None, None),
    )
    for section, name, expected, default in fixed:
        value = section.get(name, default)
        if value != expected:
            raise UserError(f"{origin}: {name} = {value!r}: only {expected!r} is supported")
    known = set(QuantizerArchitecture.model_fields) - {"kind", "n_embed", "embed_dim"}
    fields: dict[str, Any] = {name: value for name, value in network.items() if name in known}
    fields |= {name: params[name] for name in ("n_embed", "embed_dim") if name in params}
    return build_settings(QuantizerArchitecture, fields | {"kind": kind}, origin=origin)


def _section(raw: dict[str, Any], name: str, origin: str) -> dict[str, Any]:
    section = raw.get(name)
    if not isinstance(section, dict):
        raise UserError(
            f"{origin}: {name} = {section!r}: expected a section, as in the YAML files of taming-transformers"
        )
    return section


def _check_fit(quantizer: Quantizer, weights: dict[str, Tensor], checkpoint: Path, config: Path) -> None:
    """UserError that names up to three weights that are missing, unexpected or of another shape."""
    expected = quantizer.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in weights]
    problems += [f"{name} is unexpected" for name in weights if name not in expected]
    problems += [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise UserError(
            f"checkpoint {checkpoint}: is of another architecture than {config}: {', '.join(problems[:3])}{more}"
        )
