"""Going on with a run: whether its last checkpoint is of the same data, and what it holds."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import torch
from rich.console import Console

from dad_datasets.errors import UserError
from dad_trainer.training.checkpoints import LAST, Checkpoints
from dad_trainer.training.ingredients import Ingredients
from dad_trainer.training.processes import Processes
from dad_trainer.training.recipe import TrainingRecipe
from dad_trainer.training.screen import say
from dad_trainer.training.state import TrainingState
from dad_trainer.training.step import StepSums


def facts_of(recipe: TrainingRecipe, ingredients: Ingredients) -> dict[str, Any]:
    """What a checkpoint says of its run beside the state: what the student is, and what it was trained on."""
    student, first = ingredients.student, ingredients.sets[0]
    return {
        "student": recipe.student.model_dump(mode="json"),
        "mean": list(student.mean),
        "std": list(student.std),
        "image_size": student.image_size,
        "num_classes": first.num_classes,
        "class_names": None if first.class_names is None else list(first.class_names),
        "loss": recipe.loss.model_dump(mode="json"),
        "shards": {pairs.title: pairs.fingerprint for pairs in ingredients.sets},
        "total_steps": ingredients.total_steps,
    }


def set_damaged_aside(checkpoints: Checkpoints, console: Console) -> None:
    """Name damaged checkpoints and rename them, so that they never replace a whole one.

    UserError where checkpoints are there and none is whole, and where one is another program's.
    """
    document, damaged = checkpoints.load_last()
    foreign = next((one for one in damaged if one.foreign), None)
    if foreign is not None:
        raise UserError(f"{foreign.path} is another program's, no checkpoint of dad train: choose another --out")
    if damaged and document is None:
        raise UserError(
            f"{damaged[0].path} is damaged ({damaged[0].reason}), and no whole checkpoint is left; "
            "remove it to begin again"
        )
    for one in damaged:
        aside = checkpoints.set_aside(one)
        say(console, f"warning: {one.path} is damaged ({one.reason}): the one before is used; it is now {aside}")


def resume(
    state: TrainingState, checkpoints: Checkpoints, facts: dict[str, Any], processes: Processes, console: Console
) -> None:
    """Bring `state` to the newest checkpoint, if there is one.

    UserError where it was taken on other shards, and where not every process has found the same.
    """
    processes.together(lambda: _restore(state, checkpoints, facts, processes, console))
    lead = int(processes.from_lead(torch.tensor(state.step, device=processes.device)))

    def compare() -> None:
        if state.step != lead:
            raise UserError(
                f"process {processes.rank} finds step {state.step:,} in {checkpoints.path(LAST)}, the leading process "
                f"step {lead:,}: all nodes must share that folder"
            )

    processes.together(compare)


def _restore(
    state: TrainingState, checkpoints: Checkpoints, facts: dict[str, Any], processes: Processes, console: Console
) -> None:
    document, _ = checkpoints.load_last()
    if document is None:
        return
    # In their order, each once: a set that is named twice may since have become two copies in two places.
    here = {fingerprint: title for title, fingerprint in reversed(facts["shards"].items())}
    for place, (now, there) in enumerate(zip_longest(_each_once(facts), _each_once(document))):
        if now != there:
            title = here.get(now) or f"set {place + 1} of shards"
            raise UserError(f"{title} is not the set of shards that this run was begun on: its fingerprint is another")
    state.restore(document)
    if not processes.leads:
        state.sums = StepSums.zero(processes.device)  # the checkpoint holds the sums of all processes together
    say(console, f"going on after step {state.step:,} of {facts['total_steps']:,}")


def _each_once(document: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(document["shards"].values()))
