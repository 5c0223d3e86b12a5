"""A record and its clean sample, as the training loop takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dad_datasets.keys import view_key
from dad_datasets.views import Canvas


# Not frozen, nor is Pair: for one record that would take a fiftieth of the time in which 32 pixels a side are decoded.
@dataclass(kw_only=True, slots=True)
class TeacherRow:
    """The teacher's logits on one image, float16, minus their maximum.

    Full: `values` [C]. Top-k: `values` [k] in falling order, `ids` [k] their classes, `log_rest` the log of the
    probability mass left out, at the temperature for which the set was opened.
    """

    values: npt.NDArray[np.float16]
    ids: npt.NDArray[np.uint16] | None = None
    log_rest: float | None = None


@dataclass(kw_only=True, slots=True)
class Pair:
    """One view, clean and adversarial: the adversarial parts are None for clean-only views, and any not asked for."""

    source_key: str
    view: int
    label: int
    clean: Canvas | None
    adversarial: Canvas | None
    teacher_clean: TeacherRow | None
    teacher_adversarial: TeacherRow | None

    @property
    def key(self) -> str:
        """Of the record. Made when asked for: encoding it takes as long as reading the logits."""
        return view_key(self.source_key, self.view)
