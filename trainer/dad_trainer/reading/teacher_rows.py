"""The teacher's logits of a record, from its tar or from memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dad_datasets.errors import UserError
from dad_datasets.layout import shard_name
from dad_datasets.record import npy_bytes, read_npy
from dad_datasets.shard_files import ShardFiles
from dad_trainer.reading.pair import TeacherRow
from dad_trainer.reading.record_table import ABSENT, RecordTable
from dad_trainer.reading.stored_form import StoredForm

_DTYPES: dict[str, np.dtype[Any]] = {
    "teacher": np.dtype("<f2"),
    "teacher_ids": np.dtype("<u2"),
    "teacher_rest": np.dtype("<f4"),
}


class TeacherRows:
    """Rows of logits, for one temperature where only the k largest are stored."""

    def __init__(self, files: ShardFiles, form: StoredForm, *, temperature: float | None) -> None:
        """UserError where top-k logits are not stored for `temperature`. None: no logits of such a set can be read."""
        self._files = files
        self._form = form
        # Parsing a .npy header takes ten times as long as reading the array, and those of a dataset are all equal.
        self._widths = form.row_widths
        self._headers = {name: _usual_header(name, width) for name, width in self._widths.items()}
        self._rest_column = None
        if form.top_k is not None and temperature is not None:
            self._rest_column = form.rest_column(temperature)

    @property
    def top_k(self) -> int | None:
        return self._form.top_k

    def read(self, records: RecordTable, record: int) -> tuple[TeacherRow, TeacherRow | None]:
        """Of the clean view and of the stored adversarial pixels; None where the view was not attacked."""
        parts = {name: self._part(records, record, name) for name in self._widths}
        clean = self._row(parts, 0)
        return clean, self._row(parts, 1) if records.attacked[record] else None

    def _row(self, parts: dict[str, npt.NDArray[Any]], row: int) -> TeacherRow:
        if self._form.top_k is None:
            return TeacherRow(values=parts["teacher"][row])
        if self._rest_column is None:
            stored = ", ".join(f"{value:g}" for value in self._form.temperatures)
            raise UserError(
                f"temperature: must be given, one of {stored}, since these shards keep the {self._form.top_k} largest "
                "logits alone"
            )
        rest = parts["teacher_rest"][row, self._rest_column]
        return TeacherRow(values=parts["teacher"][row], ids=parts["teacher_ids"][row], log_rest=float(rest))

    def _part(self, records: RecordTable, record: int, name: str) -> npt.NDArray[Any]:
        """[2, width], or [1, width] of a view that was not attacked."""
        place = int(records.inline_places[record])
        if place != ABSENT:
            inline: npt.NDArray[Any] = records.inline[name][place : place + 1]
            return inline
        unit = records.units[records.shards[record]]
        offset, length = records.spans[name][record].tolist()
        content = self._files.read(unit, offset, length)
        try:
            return self._parse(content, name)
        except (ValueError, EOFError) as error:
            where = f"{shard_name(unit)}: the {name} of {records.key(record)}"
            raise UserError(f"{where} is not the array that was written: {error}") from None

    def _parse(self, content: bytes, name: str) -> npt.NDArray[Any]:
        dtype, width, header = _DTYPES[name], self._widths[name], self._headers[name]
        if content.startswith(header):
            return np.frombuffer(content, dtype, offset=len(header)).reshape(2, width)
        array = read_npy(content)
        if array.shape != (2, width) or array.dtype != dtype:
            raise ValueError(f"{array.dtype} {array.shape} instead of {dtype} {(2, width)}")
        return array


def _usual_header(name: str, width: int) -> bytes:
    array = np.zeros((2, width), _DTYPES[name])
    return npy_bytes(array)[: -array.nbytes]
