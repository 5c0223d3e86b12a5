"""The optimiser, and the learning rate as a function of the step alone."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal, Self

import timm.optim
from pydantic import Field, field_validator, model_validator
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, StepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from dad_datasets.errors import UserError
from dad_datasets.settings import Settings

ScheduleName = Literal["cosine", "step", "multistep", "constant"]
Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimiserSettings(Settings):
    """How the gradient moves the weights: an optimiser of timm, by its name there."""

    name: str = Field("adamw", description="timm's name, such as adamw, lamb, or sgd (Nesterov; momentum: classical).")
    lr: float = Field(1e-3, gt=0, le=1e30, description="Peak learning rate.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay.")
    decay_1d: bool = Field(False, description="Whether biases and the scales of norms, all of one axis, decay too.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum, where the optimiser has one.")
    betas: tuple[Beta, ...] | None = Field(None, description="Decay of Adam's averages; the optimiser's own if null.")
    eps: float | None = Field(None, gt=0, description="Adam's term in the denominator; the optimiser's own if null.")
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="Factor on the learning rate for each layer away from the head."
    )

    @field_validator("name")
    @classmethod
    def _is_known(cls, value: str) -> str:
        known = timm.optim.list_optimizers()
        base = value.removeprefix("lookahead_")
        if base not in known:
            close = difflib.get_close_matches(base, known, n=3, cutoff=0.5)
            raise ValueError(f"timm has no such optimiser{'; close names: ' + ', '.join(close) if close else ''}")
        if timm.optim.get_optimizer_info(base).second_order:
            raise ValueError("needs second derivatives, which training does not compute; choose another optimiser")
        return value

    @model_validator(mode="after")
    def _takes_its_arguments(self) -> Self:
        # timm drops what an optimiser does not take, without a word.
        info = timm.optim.get_optimizer_info(self.name.removeprefix("lookahead_"))
        allowed = info.num_betas if info.has_betas else 0
        if self.betas is not None and len(self.betas) != allowed:
            raise ValueError(f"betas: {self.name} takes {allowed or 'none'}")
        if self.eps is not None and not info.has_eps:
            raise ValueError(f"eps: {self.name} takes none")
        return self


class ScheduleSettings(Settings):
    """How the learning rate goes from step to step; warm-up first, then the decay over the steps that remain."""

    name: ScheduleName = Field("cosine", description="Decay after the warm-up.")
    warmup_epochs: float = Field(0.0, ge=0, description="Length of the linear warm-up in epochs.")
    warmup_steps: int | None = Field(None, ge=0, description="The same in optimiser steps, in place of warmup_epochs.")
    warmup_lr: float = Field(0.0, ge=0, description="Learning rate of the first step of the warm-up.")
    min_lr: float = Field(0.0, ge=0, description="Where cosine ends.")
    decay_epochs: float = Field(30.0, gt=0, description="Interval of step, in epochs.")
    milestones: tuple[float, ...] = Field((), description="Where multistep decays, in epochs after the warm-up.")
    decay_rate: float = Field(0.1, gt=0, le=1, description="Factor of each decay of step and multistep.")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.warmup_steps is not None and self.warmup_epochs:
            raise ValueError("warmup_steps: give either warmup_steps or warmup_epochs")
        if (self.name == "multistep") != bool(self.milestones):
            raise ValueError("milestones: go with multistep, and only with it")
        if list(self.milestones) != sorted(set(self.milestones)) or any(at <= 0 for at in self.milestones):
            raise ValueError("milestones: expected rising epochs above 0")
        return self


def build_optimiser(settings: OptimiserSettings, model: nn.Module) -> Optimizer:
    """The optimiser over the model's trainable parameters, in timm's groups (no decay where there should be none).

    UserError where it needs a package or a GPU that is not there.
    """
    optional = {name: value for name in ("betas", "eps") if (value := getattr(settings, name)) is not None}
    try:
        return timm.optim.create_optimizer_v2(
            model,
            opt=settings.name,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            filter_bias_and_bn=not settings.decay_1d,
            layer_decay=settings.layer_decay,
            **optional,
        )
    except (ImportError, AssertionError) as error:  # timm asserts that there is the GPU that some of them need
        raise UserError(f"optimiser.name = {settings.name!r}: cannot be had here: {error}") from None


def build_schedule(
    settings: ScheduleSettings, optimiser: Optimizer, *, total_steps: int, steps_per_epoch: float
) -> Scheduler:
    """timm's scheduler, counted in optimiser steps: `step_update(k)` before step k = 0, 1, ... sets its learning rate.

    The rates depend on k and on the settings only, never on what was called before, so resuming needs no state of it;
    build it before the optimiser's state is loaded. Layer decay multiplies every rate, as it does in timm.

    Raises UserError for a warm-up that leaves no step, and for a learning rate below the one where it should end.
    """
    given = settings.warmup_steps
    warmup = round(settings.warmup_epochs * steps_per_epoch) if given is None else given
    if warmup >= total_steps:
        raise UserError(f"schedule: the warm-up of {warmup} steps leaves none of the run's {total_steps}")
    peak = max(float(group["lr"]) for group in optimiser.param_groups)
    for field in ("warmup_lr", "min_lr"):
        if (value := getattr(settings, field)) > peak:
            raise UserError(f"schedule.{field} = {value}: is above the peak rate, optimiser.lr = {peak}")
    shared = {"warmup_t": warmup, "warmup_lr_init": settings.warmup_lr, "warmup_prefix": True, "t_in_epochs": False}
    match settings.name:
        case "cosine":
            return CosineLRScheduler(optimiser, t_initial=total_steps - warmup, lr_min=settings.min_lr, **shared)
        case "step":
            interval = max(1, round(settings.decay_epochs * steps_per_epoch))
            return StepLRScheduler(optimiser, decay_t=interval, decay_rate=settings.decay_rate, **shared)
        case "multistep":
            # timm decays one step before a milestone; this puts it exactly there.
            milestones = [round(at * steps_per_epoch) + 1 for at in settings.milestones]
            return MultiStepLRScheduler(optimiser, decay_t=milestones, decay_rate=settings.decay_rate, **shared)
        case "constant":
            return StepLRScheduler(optimiser, decay_t=1, decay_rate=1.0, **shared)
