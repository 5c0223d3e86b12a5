"""How many views of each class there are, and how many of them the teacher gets right."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MOST_CLASSES = 2**20
"""Labels above are counted in no class: a damaged index must not ask for memory without bound."""


class ClassCounts:
    """Counts by label, int64 [number of labels seen so far]."""

    def __init__(self) -> None:
        self.views = np.zeros(0, dtype=np.int64)
        self.right_clean = np.zeros(0, dtype=np.int64)
        self.right_adversarial = np.zeros(0, dtype=np.int64)

    def add(
        self,
        labels: npt.NDArray[np.int64],
        clean: npt.NDArray[np.int64] | None = None,
        adversarial: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Count views by their labels, and the teacher's classes on them where it was asked."""
        known = (labels >= 0) & (labels < MOST_CLASSES)
        self.views = _sum(self.views, np.bincount(labels[known]))
        if clean is not None:
            self.right_clean = _sum(self.right_clean, np.bincount(labels[known & (clean == labels)]))
        if adversarial is not None:
            self.right_adversarial = _sum(self.right_adversarial, np.bincount(labels[known & (adversarial == labels)]))

    def table(self) -> list[tuple[int, int, int, int]]:
        """(label, views, right on the clean view, right on the adversarial one) of each label that occurs."""
        length = len(self.views)
        clean = _sum(np.zeros(length, dtype=np.int64), self.right_clean)
        adversarial = _sum(np.zeros(length, dtype=np.int64), self.right_adversarial)
        return [
            (label, int(self.views[label]), int(clean[label]), int(adversarial[label]))
            for label in np.flatnonzero(self.views).tolist()
        ]


def _sum(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    longer, shorter = (a.copy(), b) if len(a) >= len(b) else (b.copy(), a)
    longer[: len(shorter)] += shorter
    return longer
