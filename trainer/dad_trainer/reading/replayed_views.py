"""Clean canvases from the source: fetched by key, replayed, and the first ones checked to be what was attacked."""

from __future__ import annotations

import os

from dad_datasets.decoding import UndecodableImageError, decode_image
from dad_datasets.errors import UserError
from dad_datasets.record import pixels_sha256
from dad_datasets.sources import CleanSource
from dad_datasets.views import Canvas, View, replay
from dad_trainer.reading.record_table import RecordTable
from dad_trainer.reading.stored_form import StoredForm


class ReplayedViews:
    """The clean views of records; the first `checked` ones of each process are compared with what was attacked."""

    def __init__(self, source: CleanSource, name: str, form: StoredForm, *, checked: int) -> None:
        """`name` is what error messages call the source."""
        self._source = source
        self.name = name
        self._form = form
        self._checked = checked
        self._process, self._left_to_check = 0, 0

    def canvas(self, records: RecordTable, record: int, *, check: bool = False) -> Canvas:
        """uint8 [size, size, 3]. UserError where the source lacks the image or has another one (found if checked)."""
        key = records.source_key(record)
        view = View(
            index=int(records.views[record]),
            box=records.box(record),
            size=self._form.size,
            resize=self._form.resize,
            flip=bool(records.flips[record]),
        )
        try:
            image = decode_image(self._source.fetch(key), max_pixels=self._form.max_pixels)
        except KeyError:
            raise UserError(f"clean data {self.name}: holds no usable image {key}") from None
        except UndecodableImageError as error:
            raise UserError(f"clean data {self.name}: {key} cannot be decoded: {error}") from None
        canvas = replay(image, view)
        if (self._is_early() or check) and pixels_sha256(canvas) != records.canvas_sha256[record].as_py():
            raise UserError(
                f"clean data {self.name}: view {view.index} of {key} has other pixels than those that were attacked; "
                "expected the data that the shards were made from (checked = 0 lets it through, where only another "
                "Pillow decodes it otherwise)"
            )
        return canvas

    def _is_early(self) -> bool:
        """Whether this call is among the first of its process, which loader workers are too."""
        if self._process != os.getpid():
            self._process, self._left_to_check = os.getpid(), self._checked
        self._left_to_check -= 1
        return self._left_to_check >= 0
