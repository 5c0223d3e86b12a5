"""The teacher's logits of records, from their tars or from memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
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

    def read(self, records: RecordTable, indexes: Sequence[int]) -> list[tuple[TeacherRow, TeacherRow | None]]:
        """Of each record's clean view and of its stored adversarial pixels; None where the view was not attacked."""
        parts = {name: self._parts(records, indexes, name) for name in self._widths}
        attacked = records.attacked[indexes].tolist()
        adversarial = iter(self._rows({name: list(compress(each, attacked)) for name, each in parts.items()}, 1))
        return [
            (clean, next(adversarial) if is_attacked else None)
            for clean, is_attacked in zip(self._rows(parts, 0), attacked, strict=True)
        ]

    def _rows(self, parts: dict[str, list[npt.NDArray[Any]]], row: int) -> list[TeacherRow]:
        values = [each[row] for each in parts["teacher"]]
        if self._form.top_k is None:
            return [TeacherRow(values=each) for each in values]
        if self._rest_column is None:
            stored = ", ".join(f"{value:g}" for value in self._form.temperatures)
            raise UserError(
                f"temperature: must be given, one of {stored}, since these shards keep the {self._form.top_k} largest "
                "logits alone"
            )
        ids = [each[row] for each in parts["teacher_ids"]]
        rests = [float(each[row, self._rest_column]) for each in parts["teacher_rest"]]
        return [TeacherRow(values=v, ids=i, log_rest=rest) for v, i, rest in zip(values, ids, rests, strict=True)]

    def _parts(self, records: RecordTable, indexes: Sequence[int], name: str) -> list[npt.NDArray[Any]]:
        """[2, width] of each record, or [1, width] of a view that was not attacked."""
        places = records.inline_places[indexes].tolist()
        in_tars = [index for index, place in zip(indexes, places, strict=True) if place == ABSENT]
        stored = iter(self._stored(records, in_tars, name))
        return [next(stored) if place == ABSENT else records.inline[name][place : place + 1] for place in places]

    def _stored(self, records: RecordTable, indexes: Sequence[int], name: str) -> list[npt.NDArray[Any]]:
        """[2, width] of each record, all of which have them in their tars."""
        dtype, width = _DTYPES[name], self._widths[name]
        contents = [self._files.read(*place) for place in records.places(name, indexes)]
        numbers = [content.removeprefix(self._headers[name]) for content in contents]
        if {len(each) for each in numbers} == {2 * width * dtype.itemsize}:
            return list(np.frombuffer(b"".join(numbers), dtype).reshape(-1, 2, width))
        return [self._parsed(content, records, index, name) for content, index in zip(contents, indexes, strict=True)]

    def _parsed(self, content: bytes, records: RecordTable, index: int, name: str) -> npt.NDArray[Any]:
        try:
            array = read_npy(content)
            if (array.dtype, array.shape) != (expected := (_DTYPES[name], (2, self._widths[name]))):
                raise ValueError(f"{array.dtype} {array.shape} instead of {expected[0]} {expected[1]}")
        except (ValueError, EOFError) as error:
            where = f"{shard_name(records.unit(index))}: the {name} of {records.key(index)}"
            raise UserError(f"{where} is not the array that was written: {error}") from None
        return array


def _usual_header(name: str, width: int) -> bytes:
    array = np.zeros((2, width), _DTYPES[name])
    return npy_bytes(array)[: -array.nbytes]
