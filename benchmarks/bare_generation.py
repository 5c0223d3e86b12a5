"""Generation without a pipeline round it: what the models alone cost, and the authors' way to call them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dad_pipeline.adversarial_views import attack_pixels, to_pixels
from dad_pipeline.models import Models, precision
from dad_pipeline.planning import Plan
from dad_pipeline.recipe import Recipe
from dad_pipeline.shard_generation import scores_vqgan
from dad_pipeline.view_batches import ViewBatches, stack_canvases


@dataclass(frozen=True, kw_only=True)
class PixelBatch:
    """One batch on the models' device, ready for the attack."""

    pixels: Tensor
    labels: Tensor
    start: Tensor | None
    score_vqgan: bool


def batches_in_memory(plan: Plan, models: Models) -> list[PixelBatch]:
    """Every batch that the run would make, decoded, drawn and copied beforehand."""
    batches = []
    with ThreadPoolExecutor() as pool:
        for unit in plan.units:
            views = ViewBatches(unit, plan.source, plan.recipe, models.teacher.num_classes, pool=pool, ahead=1)
            for batch in views:
                starts = [torch.from_numpy(view.start) for view in batch.prepared if view.start is not None]
                batches.append(
                    PixelBatch(
                        pixels=to_pixels(stack_canvases(batch.prepared), models.device),
                        labels=torch.tensor([view.provenance.label for view in batch.prepared], device=models.device),
                        start=torch.stack(starts).to(models.device) if starts else None,
                        score_vqgan=scores_vqgan(plan.recipe, batch),
                    )
                )
    return batches


def bare_loop(models: Models, recipe: Recipe, batches: Sequence[PixelBatch]) -> None:
    """The run's model calls alone: each batch scored, attacked and scored again, nothing kept."""

    def score(pixels: Tensor) -> Tensor:
        with torch.no_grad(), precision(recipe.compute, models.device):
            logits: Tensor = models.teacher(pixels)
        return logits

    for batch in batches:
        score(batch.pixels)
        result = attack_pixels(models, recipe, batch.pixels, batch.labels, start=batch.start)
        score(_as_stored(result.pixels))
        if batch.score_vqgan:
            score(_as_stored(result.vqgan_pixels))
    if models.device.type == "cuda":
        torch.cuda.synchronize()


def _as_stored(pixels: Tensor) -> Tensor:
    return (pixels * 255).round() / 255


def authors_loop(models: Models, recipe: Recipe, batches: Sequence[PixelBatch]) -> None:
    """A straightforward port of what the authors' `generate_examples.py` computes with preset `released`, in float32.

    As there: the attacked model and the labelling model are called one after the other on the clean batch (here they
    are one network), the former with its graph; the gradient is taken for the weights too; every round trip and every
    scoring is computed where it is needed. Left out: file names, and anomaly detection, which their release left on.
    """
    attack, model, vqgan = recipe.attack, models.attacked, models.quantizer
    assert attack.norm == "l2", "the authors' preset"
    assert attack.steps == 1, "the authors' preset"
    model.requires_grad_(True)
    try:
        for batch in batches:
            model(batch.pixels)  # the student's place
            expected = models.teacher(batch.pixels).detach()
            with torch.no_grad():
                centre = vqgan.decode(vqgan.encode(batch.pixels))
                at = centre if batch.start is None else (centre + attack.epsilon * batch.start).clamp(0, 1)
            at = at.detach().requires_grad_(True)
            loss = F.kl_div(model(at).log_softmax(1), expected.log_softmax(1), log_target=True, reduction="batchmean")
            loss.backward()
            assert at.grad is not None, "it was asked for"
            with torch.no_grad():
                length = at.grad.flatten(1).norm(dim=1)[:, None, None, None] + 1e-10
                moved = at + attack.step_size * at.grad / length - centre
                moved = (centre + moved.renorm(2, 0, attack.epsilon)).clamp(0, 1)
                models.teacher(vqgan.decode(vqgan.encode(moved)))
            model.zero_grad()
    finally:
        model.requires_grad_(False)
    if models.device.type == "cuda":
        torch.cuda.synchronize()
