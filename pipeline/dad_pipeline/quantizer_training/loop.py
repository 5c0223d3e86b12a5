"""The training run: from a recipe to a folder with a quantizer, resumable at any checkpoint."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Protocol

import torch

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder, require_writable
from dad_datasets.lease import Lease
from dad_datasets.output_place import refuse_out_inside_source
from dad_datasets.sources import open_source
from dad_datasets.stop_request import StopRequest, TrainingInterrupted
from dad_datasets.torch_devices import choose_device
from dad_pipeline.models import told_of_memory
from dad_pipeline.quantizer_training.export import export_quantizer, write_picture, write_summary
from dad_pipeline.quantizer_training.figures import QuantizerFigures, measure
from dad_pipeline.quantizer_training.images import Batches, hold_back, load_images
from dad_pipeline.quantizer_training.losses import TeacherDistance
from dad_pipeline.quantizer_training.settings import QuantizerRecipe
from dad_pipeline.quantizer_training.state import resume_state, save_state, start_state
from dad_pipeline.quantizer_training.step import StepFigures, training_step
from dad_pipeline.teachers import load_teacher

STATE_NAME = "last.pt"

MEASURED_AT_ONCE = 64
"""Validation images in one call of the networks, at most."""


class Listener(Protocol):
    """Whoever watches a run."""

    def loaded(self, num_images: int, problems: Counter[str], first_step: int) -> None: ...

    def stepped(self, step: int, figures: StepFigures) -> None: ...

    def checkpointed(self, step: int, figures: QuantizerFigures) -> None: ...


def train_quantizer(recipe: QuantizerRecipe, out: Path, listener: Listener) -> QuantizerFigures:
    """Train to the recipe's last step, from the checkpoint in `out` where there is one, and export the quantizer there.

    On a CPU a resumed run gives the same bytes as one that was never interrupted. UserError for every mistake in the
    recipe, and for a folder that was begun with another recipe or other images, is in use, or cannot be written.
    SIGINT or SIGTERM ends it after the step in hand, as TrainingInterrupted; a second one at once.
    """
    device = choose_device(recipe.device, field="device")
    if device.type == "cpu":
        torch.set_num_threads(recipe.threads)
    refuse_out_inside_source(recipe.source.path, str(out))
    require_writable(LocalFolder(out))
    with Lease(out), told_of_memory(recipe.optimiser.batch_size, option="--set optimiser.batch_size="):
        return _train(recipe, out, device, listener)


def _train(recipe: QuantizerRecipe, out: Path, device: torch.device, listener: Listener) -> QuantizerFigures:
    source = open_source(recipe.source)
    state = start_state(recipe, device)
    origin = _origin(recipe, source.identity())
    if (out / STATE_NAME).exists():
        resume_state(state, origin, out / STATE_NAME)
    teacher = distance = None
    if recipe.teacher is not None:
        teacher = load_teacher(recipe.teacher, class_names=source.class_names, device=device)
        if recipe.losses.feature:
            size = recipe.network.resolution
            blank = torch.zeros(1, 3, size, size, device=device)
            distance = TeacherDistance(teacher, recipe.losses.feature_layers, blank)

    images, problems = load_images(source, size=recipe.network.resolution, max_images=recipe.max_images)
    training, validation = hold_back(images, recipe.validation_images, seed=recipe.seed)
    num_images = len(images)
    del images  # gigabytes, of which both halves are copies
    batches = Batches(
        training, batch_size=recipe.optimiser.batch_size, seed=recipe.seed, crop_padding=recipe.crop_padding
    )
    listener.loaded(num_images, problems, state.step)
    # What the device holds forwards and backwards it holds forwards, too.
    measured_at_once = min(MEASURED_AT_ONCE, recipe.optimiser.batch_size)

    with StopRequest() as stop:
        while state.step < recipe.optimiser.steps:
            try:
                figures = training_step(state, batches(state.step).to(device), recipe, distance)
            except FloatingPointError as error:
                raise UserError(_not_finite(f"step {state.step + 1}: {error}", out / STATE_NAME)) from None
            listener.stepped(state.step, figures)
            if stop.made and state.step < recipe.optimiser.steps:
                save_state(state, origin, out / STATE_NAME)
                raise TrainingInterrupted(state.step)
            if state.step % recipe.checkpoint_every == 0:
                save_state(state, origin, out / STATE_NAME)
                export_quantizer(state.exported, out)
                listener.checkpointed(
                    state.step,
                    measure(state.exported, validation, device=device, batch_size=measured_at_once, teacher=None),
                )
    save_state(state, origin, out / STATE_NAME)
    export_quantizer(state.exported, out)
    closing = measure(state.exported, validation, device=device, batch_size=measured_at_once, teacher=teacher)
    write_picture(state.exported, validation, device=device, folder=out)
    write_summary(state.exported, closing, steps=state.step, folder=out)
    return closing


def _not_finite(what: str, last: Path) -> str:
    good = f"{last} is the last good checkpoint" if last.exists() else "there is no checkpoint yet"
    return f"{what}; {good} (a lower optimiser.learning_rate or clip_norm often helps, in another --out)"


def _origin(recipe: QuantizerRecipe, source_identity: str) -> dict[str, Any]:
    """What a resumed run must agree with: all that decides the weights, and not where the files lie."""
    only_judges = {"checkpoint_every"} if recipe.losses.feature else {"checkpoint_every", "teacher"}
    fields = recipe.model_dump(mode="json", exclude=only_judges)
    fields["source"]["path"] = source_identity
    return fields
