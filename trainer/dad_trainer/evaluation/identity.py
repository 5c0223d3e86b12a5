"""What identifies a student in results: its checkpoint's hash, and how it is fed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dad_datasets.errors import UserError
from dad_trainer.evaluation.inference import input_size
from dad_trainer.students import Student


def sha256_of_file(path: Path) -> str:
    """Hex. UserError where the file cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"checkpoint {path}: cannot be read: {error.strerror}") from None


def student_identity(student: Student, checkpoint_sha256: str, *, use_ema: bool) -> dict[str, object]:
    """Everything about a student that its answers depend on, as plain values."""
    return {
        "checkpoint_sha256": checkpoint_sha256,
        "use_ema": use_ema,
        "architecture": student.architecture,
        "num_classes": student.num_classes,
        "image_size": input_size(student),
        "mean": list(student.mean),
        "std": list(student.std),
    }


def student_names(checkpoints: Sequence[Path]) -> dict[str, Path]:
    """A short name for each checkpoint: the shortest ends of the paths, without suffix, that tell them apart.

    One alone is called by its folder and file, since most are named `best` or `last`. UserError for one given twice.
    """
    paths = [path.resolve() for path in checkpoints]
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise UserError(f"checkpoint {twice[0]}: is given twice")
    longest = max(len(path.parts) for path in paths)
    for length in range(1 if len(paths) > 1 else 2, longest + 1):
        names = ["/".join((*path.parent.parts, path.stem)[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, checkpoints, strict=True))
    return {str(path): path for path in checkpoints}  # the same but for the suffix
