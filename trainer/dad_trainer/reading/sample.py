"""A pair as a dictionary of tensors, for training loops of one's own."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dad_datasets.views import Canvas
from dad_trainer.reading.pair import Pair

Sample = dict[str, Tensor | str | int | bool]


def sample_of(pair: Pair) -> Sample:
    """What `Pairs[i]` gives, of record i read with all its parts."""
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


def _to_tensor(canvas: Canvas) -> Tensor:
    return torch.from_numpy(canvas.transpose(2, 0, 1).copy())
