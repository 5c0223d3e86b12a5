"""The loop over epochs and steps, from wherever the state stands to the run's last step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from timm.scheduler.scheduler import Scheduler
from torch import Tensor

from dad_datasets.errors import UserError
from dad_datasets.progress_line import ProgressLine
from dad_datasets.stop_request import StopRequest, TrainingInterrupted
from dad_trainer.training.batch import Batch, Collate
from dad_trainer.training.checkpoints import BEST, LAST, Checkpoints
from dad_trainer.training.items import Items
from dad_trainer.training.loading import BatchPlan, EpochBatches, epoch_loader
from dad_trainer.training.processes import Processes
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.run_folder import RunFolder
from dad_trainer.training.screen import epoch_line
from dad_trainer.training.state import HistoryRow, TrainingState, total
from dad_trainer.training.step import Stepper, StepSums
from dad_trainer.training.streams import Stream
from dad_trainer.training.tracking import Tracking
from dad_trainer.training.validation import LabelledImages, score

STOP_INTERVAL = 10
"""Steps between the looks of several processes at whether one of them was asked to stop; an epoch's end is one, too."""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What a run is made of; only `state` changes."""

    recipe: TrainingRecipe
    streams: list[Stream]
    items: Items
    collate: Collate
    plan: BatchPlan
    total_steps: int
    state: TrainingState
    stepper: Stepper
    schedule: Scheduler
    validation: LabelledImages | None
    checkpoints: Checkpoints
    folder: RunFolder
    facts: Mapping[str, Any]
    processes: Processes
    tracking: Tracking
    progress: ProgressLine
    stop: StopRequest

    def run(self) -> None:
        """Train to the end. UserError where the loss stops being a number; TrainingInterrupted where asked to stop."""
        per_epoch = self.plan.steps_per_epoch(self.streams)
        self.state.student.model.train()
        while self.state.step < self.total_steps:
            epoch = self.state.step // per_epoch
            end = min(self.total_steps, (epoch + 1) * per_epoch)
            stops = self._train(epoch, first=self.state.step - epoch * per_epoch, end=end)
            self._end_epoch(epoch)
            if stops and end < self.total_steps:
                raise TrainingInterrupted(self.state.step)

    def _train(self, epoch: int, *, first: int, end: int) -> bool:
        """The steps of an epoch from number `first` of it up to step `end` of the run; whether to go no further.

        TrainingInterrupted, after a checkpoint, where that was asked for before the last of them.
        """
        bad = torch.full((), -1, device=self.processes.device)
        saving = self.recipe.saving
        for batches in self._global_batches(epoch, first):
            self.schedule.step_update(self.state.step)
            sums, norm = self.stepper(self.state.step, batches)
            bad = self._note_bad(bad, sums, norm)
            self.state.sums = self.state.sums.plus(sums)
            self.state.step += 1
            step = self.state.step
            if self.state.ema is not None:
                self.state.ema.update(self.state.student.model, step=step)
            logs = step % saving.log_every_steps == 0
            stops = self._stops(step, end)
            saves = stops or (saving.every_steps is not None and step % saving.every_steps == 0)
            if logs or saves or step == end or bad.device.type == "cpu":
                self._require_finite(bad)
            if logs:
                self._log(sums, norm)
            self.progress.show(
                step * self.recipe.batch_size, before=f"epoch {epoch}", after=f"step {step:,}/{self.total_steps:,}"
            )
            if step == end:
                return stops
            if saves:
                self._save(LAST)
            if stops:
                raise TrainingInterrupted(self.state.step)
        return False

    def _stops(self, step: int, end: int) -> bool:
        """Whether to end here: every process alike, so several agree on it now and then."""
        if self.processes.count == 1:
            return self.stop.made
        if step % STOP_INTERVAL and step != end:
            return False
        return bool(self.processes.sum(torch.tensor([float(self.stop.made)], device=self.processes.device)) > 0)

    def _global_batches(self, epoch: int, first: int) -> Iterator[list[Batch]]:
        """This process's batches of each step."""
        places = EpochBatches(self.plan, self.streams, seed=self.recipe.seed, epoch=epoch, first=first)
        device = self.processes.device
        loader = epoch_loader(self.items, places, self.collate, workers=self.recipe.compute.workers, device=device)
        batches = iter(loader)
        try:
            while step := list(islice(batches, self.plan.accumulate)):
                for batch in step:
                    if isinstance(batch, UserError):
                        raise batch
                yield [batch.to(device) for batch in step if isinstance(batch, Batch)]
        finally:
            # Ends the workers, which heed no signal: held by a traceback, they would keep the process from ending.
            del batches

    def _end_epoch(self, epoch: int) -> None:
        loss, top1 = total(self.processes.sum(self.state.sums.values))
        self.state.sums = StepSums.zero(self.processes.device)
        row: HistoryRow = {
            "epoch": epoch,
            "step": self.state.step,
            "lr": self._rate(),
            "train_loss": loss,
            "train_top1": top1,
        }
        finished = self.state.step >= self.total_steps
        improved = self._validate(row) if finished or self._validates(epoch) else False
        self.state.history.append(row)
        # `last` comes at the end: a run that is killed before does this epoch again, to the same bits.
        if improved:
            self._save(BEST)
        keep = self.recipe.saving.every_epochs
        if keep is not None and (epoch + 1) % keep == 0:
            self._save(f"epoch-{epoch + 1:04d}.pt")
        if self.processes.leads:
            self.folder.write_summary(self.state.history)
        self._save(LAST)
        self.tracking.add(self.state.step, {name: value for name, value in row.items() if name != "step"})
        self.progress.note(epoch_line(row))

    def _validates(self, epoch: int) -> bool:
        settings = self.recipe.validation
        return settings is not None and (epoch + 1) % settings.every_epochs == 0

    def _validate(self, row: HistoryRow) -> bool:
        """Adds the scores to `row`; whether they are the best so far.

        The leading process scores for all: BatchNorm's averages differ between them.
        """
        if self.recipe.validation is None:
            return False
        loss, networks = self.stepper.loss, self.state.scored()
        scores = torch.zeros(len(networks), 2, dtype=torch.float64)
        if self.validation is not None:
            for place, network in enumerate(networks.values()):
                scores[place] = torch.tensor(
                    score(
                        network,
                        self.validation,
                        mean=loss.mean,
                        std=loss.std,
                        arithmetic=loss.arithmetic,
                        batch_size=self.recipe.images_per_pass(self.processes.count),
                    )
                )
        scores = self.processes.from_lead(scores.to(self.processes.device)).cpu()
        for name, (cross_entropy, top1) in zip(networks, scores.tolist(), strict=True):
            row[f"{name}_loss"], row[f"{name}_top1"] = cross_entropy, top1
        top1 = row["val_top1"] if self.state.ema is None else row["val_ema_top1"]
        if self.state.best is not None and top1 <= self.state.best:
            return False
        self.state.best = top1
        return True

    def _save(self, name: str) -> None:
        sums = self.processes.sum(self.state.sums.values)

        def write() -> None:
            if not self.processes.leads:
                return
            if not self.state.is_finite():
                raise UserError(self._not_finite(f"step {self.state.step - 1}: the weights are not finite numbers"))
            self.checkpoints.save(name, self.state.document({**self.facts, "sums": sums}))

        self.processes.together(write)

    def _log(self, sums: StepSums, norm: Tensor) -> None:
        loss, top1 = total(self.processes.sum(sums.values))
        values = {"step/loss": loss, "step/top1": top1, "step/lr": self._rate(), "step/grad_norm": float(norm)}
        self.tracking.add(self.state.step, {**values, "step/images_per_s": self.progress.images_per_s})

    def _note_bad(self, bad: Tensor, sums: StepSums, norm: Tensor) -> Tensor:
        """The first step whose loss was no number, or -1: kept on the device, so that no step waits for it."""
        finite = sums.values.isfinite().all()
        if not self.stepper.scaler.is_enabled():  # with a scaler, infinite gradients only make it skip the step
            finite = finite & norm.isfinite()
        return torch.where((bad < 0) & ~finite, self.state.step, bad)

    def _require_finite(self, bad: Tensor) -> None:
        step = int(bad)
        if step >= 0:
            raise UserError(self._not_finite(f"step {step}: the loss or its gradient is not a finite number"))

    def _not_finite(self, what: str) -> str:
        last = self.checkpoints.path(LAST)
        good = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
        return f"{what}; {good} (a lower learning rate, clip_norm or more warm-up often helps)"

    def _rate(self) -> float:
        """The largest learning rate; layer decay lowers those of other parameters."""
        return max(float(group["lr"]) for group in self.stepper.optimiser.param_groups)
