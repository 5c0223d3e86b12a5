"""Checkpoint files: each written whole or not at all, the one before the last kept until then."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dad_datasets.folder import TEMPORARY_PREFIX, LocalFolder
from dad_trainer.students.weights_file import UNREADABLE

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"

DIGEST = "sha256"


@dataclass(frozen=True, kw_only=True)
class DamagedCheckpoint:
    """A checkpoint that could not be used, and why."""

    path: Path
    reason: str
    foreign: bool = False
    """Whether it is another program's rather than one of ours that was spoilt."""


class Checkpoints:
    """The checkpoints of one run, in its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = LocalFolder(folder)

    def path(self, name: str) -> Path:
        """Where the checkpoint of that name is or would be."""
        return self._folder / name

    def save(self, name: str, document: Mapping[str, Any]) -> None:
        """Write one; the `last` before becomes `previous`. Wherever it is cut off, one of the two is whole."""
        with self._files.publish(name) as stream:
            torch.save({**document, DIGEST: tensors_sha256(document)}, stream)
            if name == LAST and self.path(LAST).exists():
                second_name(self.path(LAST), self.path(PREVIOUS))

    def set_aside(self, damaged: DamagedCheckpoint) -> Path:
        """Give a damaged checkpoint another name, so that it never takes the place of a whole one; the name."""
        aside = damaged.path.with_suffix(".damaged")
        damaged.path.replace(aside)
        return aside

    def load_last(self) -> tuple[dict[str, Any] | None, list[DamagedCheckpoint]]:
        """The newest checkpoint that is whole, if any, and those newer ones that are not."""
        damaged: list[DamagedCheckpoint] = []
        for name in (LAST, PREVIOUS):
            if not self.path(name).exists():
                continue
            document = read_checkpoint(self.path(name))
            if isinstance(document, dict):
                return document, damaged
            damaged.append(document)
        return None, damaged


def second_name(file: Path, name: Path) -> None:
    """Make `name` the content of `file`, which keeps its own name: a hard link, or a copy where there are none."""
    draft = name.with_name(f"{TEMPORARY_PREFIX}{name.name}")
    draft.unlink(missing_ok=True)
    try:
        os.link(file, draft)
    except OSError:
        shutil.copyfile(file, draft)
    draft.replace(name)


def read_checkpoint(path: Path) -> dict[str, Any] | DamagedCheckpoint:
    """A checkpoint of ours; the reason instead, where it is not what was written."""
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # whose text proposes to load it unsafely
        return DamagedCheckpoint(path=path, reason="it holds other things than a checkpoint's")
    except UNREADABLE as error:
        return DamagedCheckpoint(path=path, reason=(str(error).splitlines() or [type(error).__name__])[0])
    if not isinstance(document, dict) or DIGEST not in document:
        return DamagedCheckpoint(path=path, reason="it is no checkpoint of dad train", foreign=True)
    if document.pop(DIGEST) != tensors_sha256(document):
        return DamagedCheckpoint(path=path, reason="its content has changed since it was written")
    return document


def tensors_sha256(document: object) -> str:
    """Over every value in nested mappings and sequences, tensors by their bytes."""
    digest = hashlib.sha256()
    _feed(document, digest)
    return digest.hexdigest()


def _feed(value: object, digest: hashlib._Hash) -> None:
    if isinstance(value, Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        for key in value:
            digest.update(repr(key).encode())
            _feed(value[key], digest)
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(item, digest)
        digest.update(b"%d" % len(value))
    else:
        digest.update(repr(value).encode())
