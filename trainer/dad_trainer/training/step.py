"""One optimiser step: the student's forward and backward passes over one global batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dad_datasets.seeding import generator_for
from dad_trainer.augment import mix_images, mix_labels
from dad_trainer.live_teacher import LiveTeacher
from dad_trainer.losses import LossSettings, ce, dad, dad_concat, kd, one_hot
from dad_trainer.students import normalise
from dad_trainer.students.settings import Rgb
from dad_trainer.teacher_targets import MixedTargets, TeacherTargets, mix, targets_from_logits
from dad_trainer.training.batch import Batch
from dad_trainer.training.recipe import PrecisionName

AUTOCAST: dict[PrecisionName, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """In which arithmetic and memory layout the student runs."""

    device: torch.device
    precision: PrecisionName
    channels_last: bool

    def autocast(self) -> torch.autocast:
        dtype = AUTOCAST.get(self.precision)
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None)


@dataclass(frozen=True, kw_only=True)
class BatchLoss:
    """From a batch to the loss of a student on it."""

    settings: LossSettings
    num_classes: int
    mean: Rgb
    std: Rgb
    arithmetic: Arithmetic
    live_teacher: LiveTeacher | None = None

    def __call__(self, student: nn.Module, batch: Batch) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
        """The loss, in float32, and how many of the batch's first (clean) images the student classifies rightly.

        All images of a batch go through the student at once, so that BatchNorm sees both images of a pair.
        """
        n = len(batch.labels)
        unmixed = self._ask_teacher(batch) if self.live_teacher else batch.teacher
        targets: tuple[TeacherTargets | MixedTargets, ...] = unmixed
        pixels = normalise(batch.images, self.mean, self.std)
        labels = one_hot(batch.labels, self.num_classes, self.settings.label_smoothing)
        if batch.mixing is not None:
            pixels = torch.cat([mix_images(part, batch.mixing) for part in pixels.split(n)])
            labels = mix_labels(labels, batch.mixing)
            targets = tuple(mix(part, batch.mixing.partner, batch.mixing.lam) for part in unmixed)
        if self.arithmetic.channels_last:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        with self.arithmetic.autocast():
            logits = student(pixels)
        parts = logits.float().split(n)
        right = (parts[0].detach().argmax(1) == batch.labels).sum()
        return self._loss(parts, labels, targets, batch), right

    def _loss(
        self,
        logits: Sequence[Float[Tensor, "n c"]],
        labels: Float[Tensor, "n c"],
        targets: Sequence[TeacherTargets | MixedTargets],
        batch: Batch,
    ) -> Float[Tensor, ""]:
        settings, temperature = self.settings, self.settings.temperature
        match settings.name:
            case "ce":
                return ce(logits[0], labels)
            case "kd":
                return kd(logits[0], labels, targets[0], temperature=temperature, weight=settings.lambda_clean)
            case "dad":
                return dad(
                    logits[0],
                    logits[1],
                    labels,
                    targets[0],
                    targets[1 if settings.adversarial_target == "adversarial" else 0],
                    temperature=temperature,
                    lambda_clean=settings.lambda_clean,
                    lambda_adv=settings.lambda_adv,
                    attacked=batch.attacked,
                )
            case "dad_concat":
                return dad_concat(
                    logits[0],
                    labels,
                    targets[0],
                    temperature=temperature,
                    ce_weight=settings.ce_weight,
                    kl_weight=settings.kl_weight,
                )

    def _ask_teacher(self, batch: Batch) -> tuple[TeacherTargets, ...]:
        assert self.live_teacher is not None
        with torch.no_grad(), self.arithmetic.autocast():
            logits = self.live_teacher(batch.images.float() / 255)
        parts = logits.float().split(len(batch.labels))
        return tuple(targets_from_logits(part, self.settings.temperature) for part in parts)


@dataclass(frozen=True, kw_only=True)
class StepSums:
    """What one step, or the steps of an epoch, amount to: a sum over samples that processes can add up."""

    values: Float[Tensor, "3"]
    """Loss times samples, samples, rightly classified samples; float64."""

    @staticmethod
    def zero(device: torch.device) -> StepSums:
        return StepSums(values=torch.zeros(3, dtype=torch.float64, device=device))

    def plus(self, other: StepSums) -> StepSums:
        return StepSums(values=self.values + other.values)


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """Runs the passes of a step and applies the optimiser."""

    student: nn.Module
    """What is called: the network itself, or compiled, or wrapped for several processes."""
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    loss: BatchLoss
    clip_norm: float | None
    seed: int
    rank: int

    def __call__(self, step: int, batches: Sequence[Batch]) -> tuple[StepSums, Float[Tensor, ""]]:
        """The sums over this process's batches of step `step`, and the gradient's L2 norm before clipping."""
        # Dropout and stochastic depth draw from torch's own generator: seeded by the step, nothing of it need be saved.
        torch.manual_seed(int(generator_for(self.seed, "step", step, self.rank).integers(2**63)))
        sums = StepSums.zero(self.loss.arithmetic.device)
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            # Gradients of several processes are averaged once, in the last pass.
            alone = (
                nullcontext()
                if last or not isinstance(self.student, DistributedDataParallel)
                else self.student.no_sync()
            )
            with alone:
                loss, right = self.loss(self.student, batch)
                self.scaler.scale(loss / len(batches)).backward()
            n = torch.tensor(len(batch.labels), dtype=torch.float64)
            sums = sums.plus(
                StepSums(values=torch.stack([loss.detach().double() * n, n.to(loss.device), right.double()]))
            )
        self.scaler.unscale_(self.optimiser)
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.clip_norm or float("inf"))
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        return sums, norm
