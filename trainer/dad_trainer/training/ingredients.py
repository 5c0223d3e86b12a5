"""All that a training run reads, opened and found to fit together before anything is written."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from timm.scheduler.scheduler import Scheduler

from dad_datasets.benchmarks import StudentClasses
from dad_datasets.errors import UserError
from dad_datasets.seeding import generator_for
from dad_datasets.torch_devices import require_compiler
from dad_trainer.live_teacher import LiveTeacher, load_live_teacher
from dad_trainer.optimisation import build_optimiser, build_schedule
from dad_trainer.reading import Pairs
from dad_trainer.students import Student, build_student
from dad_trainer.training.loading import BatchPlan
from dad_trainer.training.processes import Processes
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.sets import open_sets
from dad_trainer.training.streams import Stream, streams_of
from dad_trainer.training.tracking import check_wandb
from dad_trainer.training.validation import LabelledImages, load_validation

REMOTE_BLOCK_SHARDS = 16


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """Data, networks, and how long the run is."""

    sets: list[Pairs]
    streams: list[Stream]
    plan: BatchPlan
    total_steps: int
    student: Student
    optimiser: torch.optim.Optimizer
    schedule: Scheduler
    live_teacher: LiveTeacher | None
    validation: LabelledImages | None
    """In the leading process, where the recipe asks for it."""


def gather(recipe: TrainingRecipe, processes: Processes) -> Ingredients:
    """Open the data and build the networks. UserError where anything is missing or does not fit."""
    check_wandb(recipe.saving.wandb_project)
    sets = open_sets(recipe)
    streams = streams_of(
        sets,
        recipe.shown,
        weights=[one.weight for one in recipe.shards],
        views=[one.views for one in recipe.shards],
    )
    plan = plan_batches(recipe, processes, remote=any("://" in pairs.url for pairs in sets))
    per_epoch = plan.steps_per_epoch(streams)
    if per_epoch == 0:
        samples = sum(stream.order.visits * stream.order.views for stream in streams)
        raise UserError(f"batch_size = {recipe.batch_size}: an epoch's {samples} samples do not fill one batch")
    size, num_classes = sets[0].size, sets[0].num_classes
    live_teacher = validation = None
    if recipe.teacher is not None:
        live_teacher = load_live_teacher(
            recipe.teacher, class_names=sets[0].class_names, num_classes=num_classes, device=processes.device
        )
    if recipe.validation is not None and processes.leads:
        classes = StudentClasses(count=num_classes, names=sets[0].class_names)
        validation = load_validation(recipe.validation, size=size, student=classes)
    total_steps = recipe.steps or max(1, math.ceil((recipe.epochs or 0) * per_epoch))
    if recipe.compute.compile:
        require_compiler(processes.device)
    student = _student(recipe, size=size, num_classes=num_classes)
    # Before the optimiser is built: some make their state at once, where the weights are.
    student.model.to(processes.device)
    if recipe.compute.channels_last:
        student.model.to(memory_format=torch.channels_last)
    optimiser = build_optimiser(recipe.optimiser, student.model)
    return Ingredients(
        sets=sets,
        streams=streams,
        plan=plan,
        total_steps=total_steps,
        student=student,
        optimiser=optimiser,
        schedule=build_schedule(recipe.schedule, optimiser, total_steps=total_steps, steps_per_epoch=per_epoch),
        live_teacher=live_teacher,
        validation=validation,
    )


def _student(recipe: TrainingRecipe, *, size: int, num_classes: int) -> Student:
    """The student for the shards' images. UserError where its input has another size."""
    settings = recipe.student
    if settings.image_size is None:
        settings = settings.model_copy(update={"image_size": size})
    elif settings.image_size != size:
        raise UserError(f"student.image_size = {settings.image_size}: the shards hold images of {size} pixels")
    seed = int(generator_for(recipe.seed, "weights").integers(2**63))
    student = build_student(settings, num_classes=num_classes, seed=seed)
    try:
        with torch.no_grad():
            student.model.eval()(torch.zeros(1, 3, size, size))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"student.architecture = {settings.architecture}: cannot take images of {size} pixels: {reason}"
        ) from None
    return student


def plan_batches(recipe: TrainingRecipe, processes: Processes, *, remote: bool = False) -> BatchPlan:
    """How the batch is shared. UserError where it cannot be shared equally."""
    samples = recipe.batch_size // recipe.images_per_sample
    mixes = bool(recipe.augment.mixup or recipe.augment.cutmix)
    share = processes.count * recipe.compute.accumulate * (2 if mixes else 1)  # couples that mix stay together
    if samples % share:
        raise UserError(
            f"batch_size = {recipe.batch_size}: must be a multiple of {share * recipe.images_per_sample} with "
            f"{processes.count} processes, accumulate = {recipe.compute.accumulate}"
            + (" and mixing" if mixes else "")
            + f" on images: {recipe.shown}"
        )
    return BatchPlan(
        samples=samples,
        process=processes.rank,
        processes=processes.count,
        accumulate=recipe.compute.accumulate,
        block_shards=recipe.compute.block_shards or (REMOTE_BLOCK_SHARDS if remote else None),
    )
