"""What a training run carries from step to step, on disk and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.seeding import generator_for
from dad_pipeline.checkpoint_file import UNREADABLE
from dad_pipeline.quantizer import Quantizer
from dad_pipeline.quantizer_training.discriminator import build_discriminator
from dad_pipeline.quantizer_training.settings import QuantizerRecipe


@dataclass(kw_only=True)
class TrainingState:
    """Networks, optimisers and counters after `step` finished steps."""

    step: int
    quantizer: Quantizer
    averaged: Quantizer | None
    optimiser: torch.optim.Optimizer
    discriminator: nn.Module | None
    discriminator_optimiser: torch.optim.Optimizer | None
    counts: Int[Tensor, " n"]
    """How often each code was chosen since the last restart."""

    @property
    def exported(self) -> Quantizer:
        """The quantizer that leaves the run."""
        return self.quantizer if self.averaged is None else self.averaged

    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """What has a state dict, by name."""
        every = {
            "quantizer": self.quantizer,
            "averaged": self.averaged,
            "optimiser": self.optimiser,
            "discriminator": self.discriminator,
            "discriminator_optimiser": self.discriminator_optimiser,
        }
        return {name: part for name, part in every.items() if part is not None}


def torch_seed(*parts: str | int) -> int:
    """A seed for torch's generators that is a function of `parts` alone."""
    return int(generator_for(*parts).integers(2**63))


def start_state(recipe: QuantizerRecipe, device: torch.device) -> TrainingState:
    """The state before the first step, drawn from the recipe's seed."""
    optimiser, adversary = recipe.optimiser, recipe.discriminator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(recipe.seed, "initial weights"))
        quantizer = Quantizer(recipe.network)
        discriminator = None
        if adversary is not None:
            discriminator = build_discriminator(channels=adversary.channels, num_layers=adversary.num_layers)
    quantizer.to(device)
    averaged = None
    if optimiser.ema_decay is not None:
        averaged = Quantizer(recipe.network).to(device).requires_grad_(False)
        averaged.load_state_dict(quantizer.state_dict())
    adam = torch.optim.AdamW(
        quantizer.parameters(),
        lr=optimiser.learning_rate,
        betas=optimiser.betas,
        weight_decay=optimiser.weight_decay,
        foreach=True,
    )
    discriminator_optimiser = None
    if adversary is not None and discriminator is not None:
        parameters = discriminator.to(device).parameters()
        discriminator_optimiser = torch.optim.Adam(parameters, lr=adversary.learning_rate, betas=(0.5, 0.9))
    return TrainingState(
        step=0,
        quantizer=quantizer,
        averaged=averaged,
        optimiser=adam,
        discriminator=discriminator,
        discriminator_optimiser=discriminator_optimiser,
        counts=torch.zeros(recipe.network.n_embed, dtype=torch.int64, device=device),
    )


def save_state(state: TrainingState, origin: dict[str, Any], path: Path) -> None:
    """Write the state atomically. `origin`: the plain values that a resumed run must agree with."""
    content = {name: part.state_dict() for name, part in state.parts().items()}
    with LocalFolder(path.parent).publish(path.name) as stream:
        torch.save({**content, "counts": state.counts, "step": state.step, "origin": origin}, stream)


def resume_state(state: TrainingState, origin: dict[str, Any], path: Path) -> None:
    """Bring `state` to where `path` left off. UserError where it is corrupt, or comes from another `origin`."""
    try:
        content = torch.load(path, map_location=state.counts.device, weights_only=True)
    except UNREADABLE:
        raise UserError(f"{path}: not a readable training state; remove it to start again") from None
    if not isinstance(content, dict) or "origin" not in content:
        raise UserError(f"{path} is another program's, no state of dad train-quantizer: choose another --out")
    found = content["origin"]
    different = differing_fields(found, origin)
    if different:
        raise UserError(
            f"{path.parent}: was begun with another {', '.join(different)}; use another --out, or undo that"
        )
    for name, part in state.parts().items():
        part.load_state_dict(content[name])
    state.counts.copy_(content["counts"])
    state.step = content["step"]


def differing_fields(left: object, right: object, prefix: str = "") -> list[str]:
    """Dotted names of the fields in which two nests of mappings differ, sorted."""
    if not (isinstance(left, dict) and isinstance(right, dict)):
        return [] if left == right else [prefix]
    names = sorted({*left, *right})
    parts = ((f"{prefix}.{name}" if prefix else name, left.get(name), right.get(name)) for name in names)
    return [field for name, a, b in parts for field in differing_fields(a, b, name)]
