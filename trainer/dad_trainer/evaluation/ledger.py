"""Finished rows in a file of JSON lines, so that the same command run again goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from dad_datasets.benchmarks import BenchmarkSettings, Condition, ImageSet
from dad_datasets.errors import UserError
from dad_trainer.evaluation.result import Result

ROWS = "rows.jsonl"
_VERSION = 1  # raise it when a figure is computed otherwise
_CHANGE_NO_ROW = {"name", "corruptions", "severities", "reference_errors"}


class Ledger:
    """Finished rows by what they are results of: the student's weights and input, the benchmark, condition, images.

    Without a file nothing is kept. Rows are appended and flushed to the disk one by one; a line cut off by a kill is
    dropped when the file is opened again.
    """

    def __init__(self, path: Path | None, *, students: Mapping[str, Mapping[str, object]], precision: str) -> None:
        """`students` has what identifies each student, its checkpoint's hash above all. UserError for another file."""
        self._path = path
        self._students = students
        self._precision = precision
        self._rows: dict[str, tuple[str, Result]] = {}
        if path is not None and path.exists():
            self._read(path)

    def find(self, student: str, settings: BenchmarkSettings, condition: Condition, images: ImageSet) -> Result | None:
        """The finished row, or None; a row of images that have changed since does not count."""
        row = self._rows.get(self._key(student, settings, condition))
        if row is None or row[0] != images.identity():  # listing the files is dear: only where there is a row at all
            return None
        return Result(**{**asdict(row[1]), "benchmark": settings.name})

    def add(
        self, student: str, settings: BenchmarkSettings, condition: Condition, images: ImageSet, result: Result
    ) -> None:
        if self._path is None:
            return
        key, identity = self._key(student, settings, condition), images.identity()
        self._rows[key] = (identity, result)
        line = json.dumps({"key": key, "images": identity, "student": student, "result": asdict(result)})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _key(self, student: str, settings: BenchmarkSettings, condition: Condition) -> str:
        identity = {
            "version": _VERSION,
            "student": dict(self._students[student]),
            "precision": self._precision,
            "benchmark": settings.model_dump(mode="json", exclude=_CHANGE_NO_ROW),
            "condition": asdict(condition),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(path, len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
                result = Result(**{**row["result"], "bad_images": tuple(row["result"]["bad_images"])})
                self._rows[row["key"]] = (row["images"], result)
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{path}: line {number} is no row of dad evaluate; move the file away") from None
