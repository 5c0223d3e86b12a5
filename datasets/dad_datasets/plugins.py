"""What the base does only with the pipeline installed, found through entry points so that it never imports upward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dad_datasets.errors import UserError
from dad_datasets.manifest import Manifest

GROUP = "dad.plugins"

Reconstruct = Callable[[Manifest, npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]
"""(manifest, canvases [n, h, w, 3]) -> what the dataset's quantizer alone makes of them, the same shape."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A stored view computed again. Equal bit for bit where the hardware and the libraries are the same."""

    key: str
    image_equal: bool
    codes_equal_share: float
    logits_max_difference: float


Replay = Callable[[str, Sequence[tuple[str, str]]], list[Replayed]]
"""(folder url, (unit, key) of stored views) -> each of them computed again and compared."""


def reconstruct_plugin() -> Reconstruct | None:
    """The pipeline's quantizer round trip, or None where the pipeline is not installed."""
    return cast("Reconstruct | None", _load("reconstruct"))


def replay_plugin() -> Replay:
    """The pipeline's recomputation of samples. UserError where the pipeline is not installed."""
    plugin = _load("replay")
    if plugin is None:
        raise UserError("--replay needs the pipeline: pip install 'discrete-adversarial-distillation[pipeline]'")
    return cast(Replay, plugin)


def _load(name: str) -> Any | None:
    entry = next(iter(entry_points(group=GROUP, name=name)), None)
    if entry is None:
        return None
    try:
        return entry.load()
    except ModuleNotFoundError:
        return None  # registered by the distribution, but its extra's libraries are absent
