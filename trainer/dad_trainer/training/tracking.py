"""Curves for TensorBoard, and for Weights & Biases where it is asked for."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder


class Tracking:
    """A context manager; `add` writes one point of each curve. Silent in processes that do not lead."""

    def __init__(
        self, folder: Path, *, step: int, wandb_project: str | None, recipe: Mapping[str, Any], enabled: bool
    ) -> None:
        """`step`: where the run begins or goes on; later points of an earlier run are cut off."""
        self._writer: Any = None
        self._wandb: Any = None
        if not enabled:
            return
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        if wandb_project is not None:
            self._wandb = _wandb().init(
                project=wandb_project, id=_run_id(folder), dir=str(folder), config=dict(recipe), resume="allow"
            )

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if kind is None else 1)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve at `step`."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)


def _run_id(folder: Path) -> str:
    """The run's name at Weights & Biases, kept in its folder so that a resumed run goes on with its curves."""
    file = folder / "wandb-id"
    if not file.exists():
        with LocalFolder(folder).publish(file.name) as stream:
            stream.write(uuid.uuid4().hex[:8].encode())
    return file.read_text()


def check_wandb(project: str | None) -> None:
    """UserError where it is asked for and not installed: before anything is begun."""
    if project is not None:
        _wandb()


def _wandb() -> Any:
    try:
        import wandb  # type: ignore[import-not-found]  # optional, in no extra
    except ModuleNotFoundError:
        raise UserError("saving.wandb_project: Weights & Biases is not installed; pip install wandb") from None
    return wandb
