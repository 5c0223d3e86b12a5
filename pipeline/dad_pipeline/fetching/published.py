"""What is known of published weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Role = Literal["checkpoint", "config"]

SAFETENSORS = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One file of published weights."""

    role: Role
    stem: str
    """Its name here, without suffix."""
    suffix: str
    """Its suffix here, unless it is safetensors, which are read by their own."""
    addresses: tuple[str, ...]
    """Where it is published; the next one is tried where a server says that it has no such file."""
    num_bytes: int | None = None
    sha256: str | None = None
    """Hex digest or the beginning of one. This and the bytes are None where nobody published them."""
    expects_safetensors: bool = False

    @property
    def hash_is_whole(self) -> bool:
        return self.sha256 is not None and len(self.sha256) == 64

    def path(self, folder: Path, *, safetensors: bool | None = None) -> Path:
        """Where it goes; None: as it is expected to arrive."""
        is_safetensors = self.expects_safetensors if safetensors is None else safetensors
        return folder / f"{self.stem}{SAFETENSORS if is_safetensors else self.suffix}"


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """What one name brings."""

    name: str
    what: str
    licence: str
    page: str
    """Where a person can read about them."""
    files: tuple[PublishedFile, ...]
    teacher: Mapping[str, object] = field(default_factory=dict)
    """The recipe's teacher section but for the file; empty for a quantizer."""
