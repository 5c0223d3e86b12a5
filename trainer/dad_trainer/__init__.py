"""The light half: distils students from finished shards, with no teacher, no VQGAN and no Ray in the process.

`open_pairs` gives the records of a set as a plain `torch.utils.data.Dataset`, for anybody's own training loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dad_trainer.reading import Pairs, open_pairs

__all__ = ["Pairs", "open_pairs"]


def __getattr__(name: str) -> object:
    # Loaded when first asked for: `dad --help` imports this package too, and should not wait for torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dad_trainer import reading

    return getattr(reading, name)
