"""A dataset's records as a map-style torch dataset: every view with its clean sample and the teacher's logits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
import numpy.typing as npt
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
from dad_trainer.reading.sample import Sample, sample_of
from dad_trainer.reading.teacher_rows import TeacherRows


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
    def clean_path(self) -> str | None:
        """Where clean images are read from; None where the shards hold all that are asked for."""
        return None if self._replayed is None else self._replayed.name

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
        return self.read_many([index], clean=clean, adversarial=adversarial, teacher=teacher)[0]

    def read_many(
        self, indexes: Sequence[int], *, clean: bool = True, adversarial: bool = True, teacher: bool = True
    ) -> list[Pair]:
        """What `read` gives for each of `indexes`, in their order.

        One part of all records is read before the next one: Python between two decodings finds its caches cold, which
        at 32 px takes a tenth of the time.
        """
        numbers = range(len(self))
        indexes = [numbers[index] for index in indexes]  # IndexError beyond the end, by which loops over it stop
        records = self._records
        shown = [adversarial and attacked for attacked in records.attacked[indexes].tolist()]
        rows = self._teacher.read(records, indexes) if teacher else [(None, None)] * len(indexes)
        parts = zip(
            records.source_keys_of(indexes),
            records.views[indexes].tolist(),
            records.labels[indexes].tolist(),
            rows,
            self._clean(indexes) if clean else [None] * len(indexes),
            self._adversarial(indexes, shown),
            strict=True,
        )
        return [
            Pair(
                source_key=source_key,
                view=view,
                label=label,
                clean=clean_canvas,
                adversarial=adversarial_canvas,
                teacher_clean=row[0],
                teacher_adversarial=None if adversarial_canvas is None else row[1],
            )
            for source_key, view, label, row, clean_canvas, adversarial_canvas in parts
        ]

    def __getitem__(self, index: int) -> Sample:
        """The record as tensors that torch's default_collate can stack, with h = w = `size`.

        `clean` and `adversarial` uint8 [3, h, w]; `label`, `view`; `key`, `source_key`; `teacher` float16 [2, C]
        (clean, adversarial), or with top-k `teacher` [2, k], `teacher_ids` int64 [2, k] and `teacher_log_rest`
        float32 [2]. A clean-only view has `attacked` False, and its clean part stands in for the adversarial one.
        """
        return sample_of(self.read(index))

    def __getitems__(self, indexes: Sequence[int]) -> list[Sample]:
        """Samples read together: torch's DataLoader asks for a batch's at once."""
        return [sample_of(pair) for pair in self.read_many(indexes)]

    def check_clean(self, num_records: int) -> None:
        """Compare the clean canvases of `num_records` records, spread evenly, with what was attacked.

        UserError where the source lacks one or has another. Those that the shards hold themselves are not looked at.
        """
        replayed = np.flatnonzero(~self._clean_is_stored)
        for place in np.linspace(0, len(replayed) - 1, min(num_records, len(replayed))):
            self._replay(int(replayed[round(place)]), check=True)

    def _clean(self, indexes: Sequence[int]) -> list[Canvas]:
        is_stored = self._clean_is_stored[indexes].tolist()
        stored = iter(self._decoded("clean", list(compress(indexes, is_stored))))
        return [next(stored) if here else self._replay(index) for index, here in zip(indexes, is_stored, strict=True)]

    def _adversarial(self, indexes: Sequence[int], shown: Sequence[bool]) -> list[Canvas | None]:
        stored = iter(self._decoded("image", list(compress(indexes, shown))))
        return [next(stored) if is_shown else None for is_shown in shown]

    def _replay(self, index: int, *, check: bool = False) -> Canvas:
        if self._replayed is None:
            raise UserError(f"{self.url}: was opened without its clean images")
        return self._replayed.canvas(self._records, index, check=check)

    def _decoded(self, member: str, indexes: Sequence[int]) -> list[Canvas]:
        """`member` of these records, all of which have it in their tars."""
        places = self._records.places(member, indexes)
        contents = [self._files.read(*place) for place in places]
        canvases = []
        for index, (unit, *_), content in zip(indexes, places, contents, strict=True):
            try:
                canvases.append(decode_canvas(content))
            except UndecodableImageError as error:
                name, key = f"{self.url}/{shard_name(unit)}", self._records.key(index)
                raise UserError(f"{name}: the {member} of {key} cannot be decoded: {error}") from None
        return canvases
