"""Weights files: ours, timm's and bare ones, read without running anything that they contain."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dad_datasets.errors import UserError

# Where training programs keep the weights: the averaged ones first, as timm reads them.
AVERAGED = ("state_dict_ema", "model_ema")
PLAIN = ("state_dict", "model")

# What wrappers put before every name.
PREFIXES = ("module.", "_orig_mod.")

# What torch's reader raises over bytes that are no checkpoint.
UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """The named weights on the CPU, and what else stood beside them (nothing in a bare file)."""

    path: Path
    weights: Mapping[str, Tensor]
    beside: Mapping[str, object]


def read_weights(path: Path, *, use_ema: bool = True) -> WeightsFile:
    """A `.safetensors` file, or a torch file with the weights directly or under one of AVERAGED and PLAIN.

    UserError where the file is missing, corrupt, holds no weights, or asks for code to be run.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path}: no such file")
    beside: dict[str, object] = {}
    found: object
    if path.suffix == ".safetensors":
        try:
            found = load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"checkpoint {path}: not a readable safetensors file: {error}") from None
    else:
        found = _read_torch(path)
        wrappers = [name for name in (*(AVERAGED if use_ema else ()), *PLAIN) if _holds(found, name)]
        if isinstance(found, dict) and wrappers:
            beside = {str(name): value for name, value in found.items() if name not in (*AVERAGED, *PLAIN)}
            found = found[wrappers[0]]
    weights = {str(k): v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, dict) else {}
    if not weights:
        raise UserError(
            f"checkpoint {path}: holds no weights, neither directly nor under {', '.join(AVERAGED + PLAIN)}"
        )
    for prefix in PREFIXES * len(PREFIXES):  # in either order
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return WeightsFile(path=path, weights=weights, beside=beside)


def _holds(content: object, name: str) -> bool:
    return isinstance(content, dict) and isinstance(content.get(name), dict)


def _read_torch(path: Path) -> object:
    try:
        # timm's checkpoints hold their arguments as a Namespace: attributes, no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        unsafe = isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error)
        reason = "asks to run code, which is refused" if unsafe else "not a readable torch checkpoint"
        raise UserError(f"checkpoint {path}: {reason}; a .safetensors file would be read") from None
