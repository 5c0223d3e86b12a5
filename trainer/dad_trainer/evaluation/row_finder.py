"""From assignments to rows: those that are finished looked up, the others computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from dad_datasets.benchmarks import Benchmark, Condition, ImageSet
from dad_datasets.corruptions import corrupt
from dad_trainer.evaluation.answers import Answers
from dad_trainer.evaluation.assignment import Assignment
from dad_trainer.evaluation.canvases import BadImages, Chunk, ChunkReader
from dad_trainer.evaluation.inference import Inference
from dad_trainer.evaluation.ledger import Ledger
from dad_trainer.evaluation.metrics import group_logits
from dad_trainer.evaluation.result import Result
from dad_trainer.evaluation.settings import RunSettings
from dad_trainer.students import Student


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationProgress:
    """`done` of `total` images through a student, counted once for each student and condition."""

    benchmark: str
    condition: Condition
    done: int
    total: int


_BATCHES_AHEAD = 4
Report = Callable[[EvaluationProgress], None]
RowKey = tuple[str, str, Condition]
"""Student, benchmark, condition."""


class RowFinder:
    """Finds the rows of assignments, first in the ledger, then by running the students."""

    def __init__(
        self,
        students: Mapping[str, Student],
        run: RunSettings,
        inference: Inference,
        ledger: Ledger,
        report: Report | None,
    ) -> None:
        self.rows: dict[RowKey, Result] = {}
        self._students = students
        self._settings = run
        self._inference = inference
        self._ledger = ledger
        self._report = report
        self._done = self._total = 0

    def look_up(self, assignment: Assignment) -> None:
        """Take finished rows from the ledger, and count what is left to do."""
        benchmark = assignment.benchmark
        length = len(next(iter(benchmark.stored.values())))  # conditions of a published set have as many images each
        for stored, images in benchmark.stored.items():
            for condition in _rows_of(benchmark, stored):
                for name in assignment.students:
                    found = self._ledger.find(name, assignment.settings, condition, images)
                    if found is None:
                        self._total += length
                    else:
                        self.rows[name, assignment.settings.name, condition] = found

    def run(self, assignment: Assignment) -> None:
        """Compute the rows that are missing."""
        benchmark = assignment.benchmark
        for stored, images in benchmark.stored.items():
            missing = {
                condition: names
                for condition in _rows_of(benchmark, stored)
                if (names := [n for n in assignment.students if (n, benchmark.name, condition) not in self.rows])
            }
            if missing:
                self._run_set(assignment, images, missing)

    def _run_set(self, assignment: Assignment, images: ImageSet, missing: Mapping[Condition, Sequence[str]]) -> None:
        benchmark = assignment.benchmark
        reader = ChunkReader(
            view=benchmark.view,
            required_size=benchmark.required_size,
            decode_threads=self._settings.decode_threads,
            chunk_images=self._chunk_images(benchmark),
            max_bad_images=self._settings.max_bad_images,
            origin=f"benchmark {benchmark.name}",
        )
        bad = BadImages()
        answers = {(name, condition): Answers() for condition, names in missing.items() for name in names}
        for chunk in reader.read(images, bad):
            for condition, names in missing.items():
                gathering = {name: answers[name, condition] for name in names}
                self._answer(assignment, condition, chunk, gathering)
                if chunk.last:
                    for name in names:
                        self._finish(assignment, condition, images, name, answers.pop((name, condition)), bad)

    def _chunk_images(self, benchmark: Benchmark) -> int:
        """Many where each image is used again for every corruption; else just enough to keep the decoders busy."""
        if benchmark.applied is None:
            return _BATCHES_AHEAD * self._settings.batch_size
        return max(1, self._settings.chunk_mib * 2**20 // (3 * benchmark.view.size**2))

    def _answer(
        self, assignment: Assignment, condition: Condition, chunk: Chunk, gathering: Mapping[str, Answers]
    ) -> None:
        benchmark = assignment.benchmark
        for start in range(0, len(chunk.keys), self._settings.batch_size):
            batch = slice(start, start + self._settings.batch_size)
            pixels = chunk.pixels[batch].to(self._inference.device)
            labels = chunk.labels[batch].to(self._inference.device)
            pixels = self._corrupted(assignment, condition, pixels, chunk.keys[batch])
            for name, answers in gathering.items():
                logits = self._inference.logits(self._students[name], pixels)
                if benchmark.groups is not None:
                    logits = group_logits(logits, benchmark.groups)
                answers.add(logits, labels)
                self._done += len(labels)
            if self._report is not None:
                self._report(
                    EvaluationProgress(
                        benchmark=benchmark.name, condition=condition, done=self._done, total=self._total
                    )
                )

    def _corrupted(
        self, assignment: Assignment, condition: Condition, pixels: UInt8[Tensor, "n 3 h w"], keys: Sequence[str]
    ) -> UInt8[Tensor, "n 3 h w"]:
        applied = assignment.benchmark.applied
        if applied is None:
            return pixels
        assert condition.corruption is not None, "applied conditions are corruptions"
        assert condition.severity is not None, "applied conditions are corruptions"
        with torch.inference_mode():
            return corrupt(
                pixels,
                condition.corruption,
                condition.severity,
                strengths=applied.strengths,
                seed=applied.seed,
                keys=keys,
            )

    def _finish(
        self,
        assignment: Assignment,
        condition: Condition,
        images: ImageSet,
        name: str,
        answers: Answers,
        bad: BadImages,
    ) -> None:
        figures = answers.figures()
        result = Result(
            benchmark=assignment.settings.name,
            corruption=condition.corruption,
            severity=condition.severity,
            num_bad=bad.count,
            bad_images=tuple(bad.named),
            **asdict(figures),
        )
        self.rows[name, assignment.settings.name, condition] = result
        self._ledger.add(name, assignment.settings, condition, images, result)


def _rows_of(benchmark: Benchmark, stored: Condition) -> tuple[Condition, ...]:
    """The conditions whose rows come from the images of a stored one."""
    return benchmark.conditions if benchmark.applied else (stored,)
