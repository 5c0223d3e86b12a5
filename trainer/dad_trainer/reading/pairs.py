"""A dataset's records as a map-style torch dataset: every view with its clean sample and the teacher's logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dad_datasets.decoding import UndecodableImageError
from dad_datasets.errors import UserError
from dad_datasets.image_codec import decode_canvas
from dad_datasets.layout import shard_name
from dad_datasets.manifest import Manifest
from dad_datasets.shard_files import ShardFiles
from dad_datasets.views import Canvas
from dad_trainer.reading.pair import Pair
from dad_trainer.reading.record_table import RecordCounts, RecordTable
from dad_trainer.reading.replayed_views import ReplayedViews
from dad_trainer.reading.teacher_rows import TeacherRows

Sample = dict[str, Tensor | str | int | bool]


class Pairs(Dataset[Sample]):
    """What `open_pairs` gives. Picklable; files are opened when first read, in each process by itself."""

    def __init__(
        self,
        *,
        url: str,
        manifest: Manifest,
        size: int,
        records: RecordTable,
        files: ShardFiles,
        replayed: ReplayedViews | None,
        teacher: TeacherRows,
        labels: tuple[str, str] | None,
        prefer_stored: bool,
    ) -> None:
        """`labels` are the name and the fingerprint of those that `teacher` reads in place of the set's own logits.

        Clean canvases are read from the shards where those hold them and `prefer_stored`, else from `replayed`.
        """
        self.url = url
        self.manifest = manifest
        self.size = size
        """Side of the canvases in pixels."""
        self._records = records
        self._files = files
        self._replayed = replayed
        self._teacher = teacher
        self._labels = labels
        self._clean_is_stored = records.has("clean") & prefer_stored

    @property
    def title(self) -> str:
        """The set by its place, and by its labels where these take the place of its own logits."""
        return self.url if self._labels is None else f"{self.url} (teacher {self._labels[0]})"

    @property
    def fingerprint(self) -> str:
        """Of what is read: of the labels, which depends on the set's, where there are any."""
        return self.manifest.fingerprint if self._labels is None else self._labels[1]

    @property
    def top_k(self) -> int | None:
        """How many logits of each row are stored; None: all."""
        return self._teacher.top_k

    @property
    def num_classes(self) -> int:
        return self.manifest.num_classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.manifest.class_names

    @property
    def counts(self) -> RecordCounts:
        """What became of the rows that the indexes hold."""
        return self._records.counts

    @property
    def samples(self) -> npt.NDArray[np.int32]:
        """[n] number of each record's clean image, from 0, without gaps: views of one image share it."""
        return self._records.samples

    @property
    def shards(self) -> npt.NDArray[np.int32]:
        """[n] number of the shard that each record is stored in."""
        return self._records.shards

    @property
    def attacked(self) -> npt.NDArray[np.bool_]:
        """[n] whether there is an adversarial image to each record."""
        return self._records.attacked

    def __len__(self) -> int:
        return len(self._records)

    def read(self, index: int, *, clean: bool = True, adversarial: bool = True, teacher: bool = True) -> Pair:
        """Record `index` with the parts asked for. UserError where they cannot be read."""
        index = range(len(self))[index]  # IndexError beyond the end, by which loops over the dataset stop
        records = self._records
        adversarial = adversarial and records.attacked.item(index)
        rows = self._teacher.read(records, index) if teacher else (None, None)
        return Pair(
            source_key=records.source_key(index),
            view=records.views.item(index),
            label=records.labels.item(index),
            clean=self._clean(index) if clean else None,
            adversarial=self._stored(index, "image") if adversarial else None,
            teacher_clean=rows[0],
            teacher_adversarial=rows[1] if adversarial else None,
        )

    def __getitem__(self, index: int) -> Sample:
        """The record as tensors that torch's default_collate can stack, with h = w = `size`.

        `clean` and `adversarial` uint8 [3, h, w]; `label`, `view`; `key`, `source_key`; `teacher` float16 [2, C]
        (clean, adversarial), or with top-k `teacher` [2, k], `teacher_ids` int64 [2, k] and `teacher_log_rest`
        float32 [2]. A clean-only view has `attacked` False, and its clean part stands in for the adversarial one.
        """
        pair = self.read(index)
        assert pair.clean is not None
        assert pair.teacher_clean is not None
        attacked = pair.adversarial is not None
        rows = (pair.teacher_clean, pair.teacher_adversarial or pair.teacher_clean)
        sample: Sample = {
            "key": pair.key,
            "source_key": pair.source_key,
            "view": pair.view,
            "label": pair.label,
            "attacked": attacked,
            "clean": _to_tensor(pair.clean),
            "adversarial": _to_tensor(pair.clean if pair.adversarial is None else pair.adversarial),
            "teacher": torch.from_numpy(np.stack([row.values for row in rows])),
        }
        ids = [row.ids for row in rows if row.ids is not None]
        if ids:
            sample["teacher_ids"] = torch.from_numpy(np.stack(ids).astype(np.int64))
            sample["teacher_log_rest"] = torch.tensor([row.log_rest for row in rows])
        return sample

    def check_clean(self, num_records: int) -> None:
        """Compare the clean canvases of `num_records` records, spread evenly, with what was attacked.

        UserError where the source lacks one or has another. Those that the shards hold themselves are not looked at.
        """
        replayed = np.flatnonzero(~self._clean_is_stored)
        for place in np.linspace(0, len(replayed) - 1, min(num_records, len(replayed))):
            self._replay(int(replayed[round(place)]), check=True)

    def _clean(self, index: int) -> Canvas:
        return self._stored(index, "clean") if self._clean_is_stored[index] else self._replay(index)

    def _replay(self, index: int, *, check: bool = False) -> Canvas:
        if self._replayed is None:
            raise UserError(f"{self.url}: was opened without its clean images")
        return self._replayed.canvas(self._records, index, check=check)

    def _stored(self, index: int, member: str) -> Canvas:
        records = self._records
        unit = records.units[records.shards[index]]
        offset, length = records.spans[member][index].tolist()
        try:
            return decode_canvas(self._files.read(unit, offset, length))
        except UndecodableImageError as error:
            name = f"{self.url}/{shard_name(unit)}"
            raise UserError(f"{name}: the {member} of {records.key(index)} cannot be decoded: {error}") from None


def _to_tensor(canvas: Canvas) -> Tensor:
    return torch.from_numpy(canvas.transpose(2, 0, 1).copy())
