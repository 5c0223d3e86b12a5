"""What a file of weights is, told from its bytes alone: nothing is unpickled."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path, PurePosixPath
from typing import Literal

from dad_datasets.errors import UserError
from dad_pipeline.fetching.origin import WebPageError
from dad_pipeline.fetching.transfer import is_markup

CheckpointKind = Literal["torch", "safetensors", "archive"]
"""`archive`: a zip that holds one checkpoint."""

TORCH_LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""What torch.save began its files with before they were zips: a pickled number."""
ZIP_MAGIC = b"PK\x03\x04"
LARGEST_HEADER_BYTES = 100_000_000  # safetensors' own bound

EXPECTED = "expected a torch checkpoint or safetensors"


def checkpoint_kind(path: Path, origin: str) -> CheckpointKind:
    """UserError, naming `origin`, where the file is none of these, or was visibly cut off."""
    with path.open("rb") as stream:
        first = stream.read(512)
    if is_markup(first):
        raise WebPageError(origin)
    if first.startswith(ZIP_MAGIC):
        return _zip_kind(path, origin)
    if first.startswith(TORCH_LEGACY_MAGIC):
        return "torch"
    header_bytes = struct.unpack("<Q", first[:8])[0] if len(first) >= 8 else 0
    if 2 <= header_bytes <= LARGEST_HEADER_BYTES and first[8:9] == b"{":
        _check_safetensors(path, header_bytes, origin)
        return "safetensors"
    begins = f"begins with {first[:8]!r}" if first else "is empty"
    raise UserError(f"{origin}: {begins}; {EXPECTED}")


def _zip_kind(path: Path, origin: str) -> CheckpointKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {PurePosixPath(name).name for name in archive.namelist()}
    except zipfile.BadZipFile:  # the list of its members stands at a zip's end
        raise UserError(f"{origin}: a torch checkpoint or a zip that was cut off or damaged") from None
    if "data.pkl" not in names:
        return "archive"
    if "constants.pkl" in names:
        raise UserError(f"{origin}: a TorchScript program, which no recipe reads; {EXPECTED}")
    return "torch"


def _check_safetensors(path: Path, header_bytes: int, origin: str) -> None:
    with path.open("rb") as stream:
        stream.seek(8)
        raw = stream.read(header_bytes)
    try:
        header = json.loads(raw)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + header_bytes + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise UserError(f"{origin}: safetensors whose header cannot be read; it was cut off or damaged") from None
    size = path.stat().st_size
    if size != expected:
        raise UserError(f"{origin}: safetensors of {size:,} bytes, but its header describes {expected:,}: cut off")
