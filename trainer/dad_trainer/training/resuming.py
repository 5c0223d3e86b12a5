"""Going on with a run: whether its last checkpoint is of the same data, and what it holds."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from dad_datasets.errors import UserError
from dad_trainer.training.checkpoints import Checkpoints
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
        "shards": {pairs.url: pairs.manifest.fingerprint for pairs in ingredients.sets},
        "total_steps": ingredients.total_steps,
    }


def resume(
    state: TrainingState, checkpoints: Checkpoints, facts: dict[str, Any], processes: Processes, console: Console
) -> None:
    """Bring `state` to the newest whole checkpoint, if there is one; damaged ones are named.

    UserError where it was taken on other shards, or where checkpoints are there and none is whole.
    """
    document, damaged = checkpoints.load_last()
    for one in damaged:
        say(console, f"warning: {one.path} is damaged ({one.reason}); the checkpoint before it is used")
    if document is None:
        if damaged:
            raise UserError(f"{damaged[-1].path}: no whole checkpoint is left; remove it to begin again")
        return
    there, now = document["shards"], facts["shards"]
    if list(there.values()) != list(now.values()):
        other = next(url for url, fingerprint in now.items() if fingerprint not in there.values())
        raise UserError(f"{other} is not the set of shards that this run was begun on: it was generated anew")
    state.restore(document)
    if not processes.leads:
        state.sums = StepSums.zero(processes.device)  # the checkpoint holds the sums of all processes together
    say(console, f"going on after step {state.step:,} of {facts['total_steps']:,}")
