"""Weights files: read without running anything they contain, and identified by a hash of the weights alone."""

from __future__ import annotations

import hashlib
import pickle
import struct
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dad_datasets.errors import UserError

# Where training programs keep the weights, the averaged ones first: timm reads its checkpoints in this order too.
WRAPPERS = ("state_dict_ema", "state_dict", "model")

# Globals that training programs leave beside the weights (callbacks, arguments, metrics). They are never imported: each
# becomes an empty class. Anything else that torch does not know makes the file unsafe.
INERT_GLOBALS = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "omegaconf.", "numpy.", "argparse.Namespace")

# What torch's reader raises over bytes that are no checkpoint: it decodes a stack language, and checks little of it.
UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The named weights in a `.safetensors` file or a torch checkpoint, on the CPU.

    A torch checkpoint may hold them directly or under one of `WRAPPERS`; the `module.` that distributed training puts
    before every name is taken off. Nothing in the file is executed. UserError where the file is missing, corrupt, holds
    no weights, or asks for code to be run.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path}: no such file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"checkpoint {path}: not a readable safetensors file: {error}") from None
    content = _read_pickle(path)
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path}: holds a {type(content).__name__}, expected named weights")
    weights = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"checkpoint {path}: holds no weights, neither directly nor under {', '.join(WRAPPERS)}")
    if all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    return weights


def weights_sha256(module: nn.Module) -> str:
    """Hex digest over the state dict in name order (names, dtypes, shapes, bytes), whatever file it came in."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_pickle(path: Path) -> object:
    """The content of a torch checkpoint, with the objects of `INERT_GLOBALS` as empty placeholders."""
    try:
        with path.open("rb") as file:
            foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(file) else []
    except (OSError, *UNREADABLE):
        raise UserError(f"checkpoint {path}: not a readable torch checkpoint (truncated or another format)") from None
    unsafe = sorted(name for name in foreign if not name.startswith(INERT_GLOBALS))
    if unsafe:
        raise UserError(f"checkpoint {path}: refused as unsafe, it asks to run {unsafe[0]}; convert it to .safetensors")
    try:
        with torch.serialization.safe_globals([(_placeholder(name), name) for name in foreign]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        refused = isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error)
        reason = "refused as unsafe, it asks to run code" if refused else "not a readable torch checkpoint"
        raise UserError(f"checkpoint {path}: {reason}; a .safetensors file would be read") from None


def _placeholder(name: str) -> type:
    """An empty class that takes any arguments and any state and does nothing with them."""
    return type(
        name.rpartition(".")[2],
        (),
        {
            "__new__": lambda cls, *arguments: object.__new__(cls),
            "__init__": lambda self, *arguments: None,
            "__setstate__": lambda self, state: None,
        },
    )
