"""A checkpoint that is published inside a zip, as latent-diffusion's are."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path, PurePosixPath

from dad_datasets.errors import UserError
from dad_pipeline.fetching.checkpoint_content import EXPECTED
from dad_pipeline.fetching.room import require_room

CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors")


def unpack_checkpoint(archive: Path, unpacked: Path, origin: str) -> None:
    """Write the one checkpoint in `archive` to `unpacked`, fsynced.

    UserError, naming `origin`, where there is none or more than one, where it is damaged, and without room for it.
    """
    try:
        with zipfile.ZipFile(archive) as members:
            names = [name for name in members.namelist() if PurePosixPath(name).suffix in CHECKPOINT_SUFFIXES]
            if len(names) != 1:
                held = ", ".join(names[:3]) or "no checkpoint"
                raise UserError(f"{origin}: a zip that holds {held}; {EXPECTED}, or a zip that holds one")
            require_room(archive.parent, members.getinfo(names[0]).file_size)
            with members.open(names[0]) as source, unpacked.open("wb") as stream:
                shutil.copyfileobj(source, stream, 2**20)
                stream.flush()
                os.fsync(stream.fileno())
    except (zipfile.BadZipFile, EOFError, NotImplementedError):  # checksums, an end too early, an odd compression
        raise UserError(f"{origin}: the checkpoint in this zip is damaged") from None
