"""A training run from its recipe to its last checkpoint."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from rich.console import Console
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dad_datasets.folder import LocalFolder, require_writable
from dad_datasets.lease import only_writer
from dad_datasets.output_place import refuse_out_inside_source
from dad_datasets.progress_line import ProgressLine
from dad_datasets.stop_request import StopRequest, TrainingInterrupted
from dad_datasets.torch_devices import exact_float32, full_memory_as_sentence
from dad_trainer.augment import Augmentation
from dad_trainer.training.batch import Collate
from dad_trainer.training.checkpoints import Checkpoints
from dad_trainer.training.ingredients import Ingredients, gather
from dad_trainer.training.items import Items
from dad_trainer.training.loop import Loop
from dad_trainer.training.processes import Processes, joined_processes
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.resuming import facts_of, resume, set_damaged_aside
from dad_trainer.training.run_folder import RunFolder
from dad_trainer.training.screen import closing_table, overview, records_line, say
from dad_trainer.training.state import TrainingState
from dad_trainer.training.step import Arithmetic, BatchLoss, Stepper, StepSums
from dad_trainer.training.tracking import Tracking


def train_student(recipe: TrainingRecipe, out: Path, *, console: Console, stop: StopRequest | None = None) -> bool:
    """Train a student, or go on training it; whether it is finished (if not, it was interrupted and can be resumed).

    A request to `stop` ends it after a step, with a checkpoint. By default SIGINT or SIGTERM is one, from the first
    step on, and a second signal ends it at once. UserError for every mistake in the recipe or the data, where the loss
    stops being a number, and where the device's memory is full.
    """
    if recipe.compute.threads is not None:
        torch.set_num_threads(recipe.compute.threads)
    exact_float32()
    with joined_processes(recipe.compute.device) as processes, _told_of_memory(recipe, processes), ExitStack() as stack:
        said = console if processes.leads else Console(quiet=True)
        ingredients = processes.together(lambda: gather(recipe, processes))
        processes.together(lambda: _require_own_folder(recipe, ingredients, out))

        def begin() -> None:
            if processes.leads:
                files = LocalFolder(out)
                require_writable(files)
                stack.enter_context(only_writer(files))
                RunFolder(out).require_same(recipe)
                set_damaged_aside(Checkpoints(out), said)
                RunFolder(out).begin(recipe)

        processes.together(begin)
        return _train(recipe, out, ingredients, processes, said, stop)


def _train(
    recipe: TrainingRecipe,
    out: Path,
    ingredients: Ingredients,
    processes: Processes,
    console: Console,
    asked_to_stop: StopRequest | None,
) -> bool:
    compute, student = recipe.compute, ingredients.student
    device, checkpoints = processes.device, Checkpoints(out)
    state = TrainingState(
        student=student,
        optimiser=ingredients.optimiser,
        scaler=torch.amp.GradScaler(device.type, enabled=compute.precision == "float16"),
        ema=None
        if recipe.ema is None
        else ModelEmaV3(student.model, decay=recipe.ema.decay, use_warmup=recipe.ema.warmup),
        sums=StepSums.zero(device),
        block_shards=ingredients.plan.block_shards,
    )
    facts = facts_of(recipe, ingredients)
    resume(state, checkpoints, facts, processes, console)
    for pairs in ingredients.sets:
        say(console, records_line(pairs))
    say(console, overview(recipe, ingredients))
    tracking = Tracking(
        out,
        step=state.step,
        wandb_project=recipe.saving.wandb_project,
        recipe=recipe.model_dump(mode="json"),
        enabled=processes.leads and state.step < ingredients.total_steps,
    )
    progress = ProgressLine(
        console, total=ingredients.total_steps * recipe.batch_size, done=state.step * recipe.batch_size
    )
    with tracking, progress, StopRequest() if asked_to_stop is None else nullcontext(asked_to_stop) as stop:
        started_at = state.step
        loop = Loop(
            recipe=recipe,
            streams=ingredients.streams,
            items=Items(
                ingredients.streams,
                Augmentation(recipe.augment, recipe.seed, mean=student.mean, std=student.std),
                teacher=recipe.uses_stored_logits,
            ),
            collate=Collate(augment=recipe.augment, seed=recipe.seed, temperature=recipe.loss.temperature),
            plan=replace(ingredients.plan, block_shards=state.block_shards),
            total_steps=ingredients.total_steps,
            state=state,
            stepper=Stepper(
                student=_wrapped(student.model, recipe, processes),
                optimiser=state.optimiser,
                scaler=state.scaler,
                loss=BatchLoss(
                    settings=recipe.loss,
                    num_classes=ingredients.sets[0].num_classes,
                    mean=student.mean,
                    std=student.std,
                    arithmetic=Arithmetic(
                        device=device, precision=compute.precision, channels_last=compute.channels_last
                    ),
                    live_teacher=ingredients.live_teacher,
                ),
                clip_norm=recipe.clip_norm,
                seed=recipe.seed,
                rank=processes.rank,
            ),
            schedule=ingredients.schedule,
            validation=ingredients.validation,
            checkpoints=checkpoints,
            folder=RunFolder(out),
            facts=facts,
            processes=processes,
            tracking=tracking,
            progress=progress,
            stop=stop,
        )
        try:
            loop.run()
        except TrainingInterrupted as interrupted:
            say(console, str(interrupted))
            return False
        rate = progress.images_per_s if state.step > started_at else None
    console.print(closing_table(recipe, state, out, images_per_s=rate))
    return True


def _require_own_folder(recipe: TrainingRecipe, ingredients: Ingredients, out: Path) -> None:
    """UserError where the run would write among what it reads, which then is no longer what it was."""
    read = [path for pairs in ingredients.sets for path in (pairs.url, pairs.clean_path) if path is not None]
    if recipe.validation is not None:
        read.append(recipe.validation.source.path)
    for path in read:
        refuse_out_inside_source(path, str(out))


def _told_of_memory(recipe: TrainingRecipe, processes: Processes) -> AbstractContextManager[None]:
    return full_memory_as_sentence(
        f"{recipe.images_per_pass(processes.count)} images at once do",
        f"--set compute.accumulate={2 * recipe.compute.accumulate}, or a smaller batch_size",
    )


def _wrapped(network: nn.Module, recipe: TrainingRecipe, processes: Processes) -> nn.Module:
    """What the step calls: the network, compiled where asked, and joined to its copies in other processes."""
    called = network
    if recipe.compute.compile:
        called = cast(nn.Module, torch.compile(network))
    if processes.count == 1:
        return called
    return DistributedDataParallel(called, device_ids=None if processes.device.type == "cpu" else [processes.device])
