"""The model work on one batch of views: score, attack, snap to codes, score what a reader will see."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dad_datasets.image_codec import LOSSLESS, decode_canvas, encode_canvas
from dad_datasets.record import Measurements, psnr_db
from dad_datasets.views import Canvas
from dad_pipeline.attack import AttackResult, discrete_attack
from dad_pipeline.models import Models, precision, quantizer_precision
from dad_pipeline.norms import l2_norm, linf_norm
from dad_pipeline.objectives import attack_objective, least_likely_target, runner_up_target
from dad_pipeline.recipe import Recipe
from dad_pipeline.view_batches import PreparedView, stack_canvases


@dataclass(frozen=True, kw_only=True)
class AdversarialView:
    """What the models made of one view. `codes` is uint16 [h/f, w/f], `logits` float32 [2, C]: clean, adversarial."""

    source: PreparedView
    canvas: Canvas
    vqgan_canvas: Canvas
    encoded: bytes | None
    """The image's file where a lossy format had to be written before scoring; otherwise it is still to be written."""
    codes: npt.NDArray[np.uint16]
    logits: npt.NDArray[np.float32]
    measured: dict[str, int | float]
    """The measurements that come from the models; `measurements` adds those of the canvases."""
    teacher_vqgan_top1: int | None

    def measurements(self) -> Measurements:
        """Everything that is measured; two passes over the pixels, so it is called beside the encoding."""
        clean = self.source.canvas
        psnr, psnr_vqgan = psnr_db(self.canvas, clean), psnr_db(self.vqgan_canvas, clean)
        return Measurements(**self.measured, psnr_db=psnr, psnr_vqgan_db=psnr_vqgan)  # type: ignore[arg-type]  # by name


@dataclass(frozen=True, kw_only=True)
class CleanScored:
    """A clean-only view and its logits, float32 [1, C]."""

    source: PreparedView
    logits: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Unusable:
    """A view on which the models gave no finite result."""

    source: PreparedView
    reason: str = "non-finite model output"


@torch.no_grad()
def score_clean(models: Models, recipe: Recipe, prepared: Sequence[PreparedView]) -> list[CleanScored | Unusable]:
    """The teacher's logits of clean-only views."""
    logits = _score(models, recipe, to_pixels(stack_canvases(prepared), models.device)).cpu().numpy()
    finite = np.isfinite(logits).all(axis=1)
    return [
        CleanScored(source=view, logits=logits[i : i + 1]) if finite[i] else Unusable(source=view)
        for i, view in enumerate(prepared)
    ]


def attack_views(
    models: Models, recipe: Recipe, prepared: Sequence[PreparedView], *, score_vqgan: bool, pool: Executor
) -> list[AdversarialView | Unusable]:
    """DESIGN of the method, on one batch: T(x0), the attack, the stored pixels, T(stored). `pool` encodes lossy images.

    The teacher scores the uint8 pixels that a reader gets back from the stored file, never the decoder's floats.
    """
    device = models.device
    clean_canvases = stack_canvases(prepared)
    clean = to_pixels(clean_canvases, device)
    labels = torch.tensor([view.provenance.label for view in prepared], device=device)
    with torch.no_grad():
        clean_logits = _score(models, recipe, clean)
        attacked_logits = _attacked_logits(models, recipe, clean, clean_logits)
    targets = _targets(recipe, prepared, attacked_logits, labels)
    result = attack_pixels(
        models,
        recipe,
        clean,
        labels,
        start=_stacked([view.start for view in prepared], dim=0, device=device),
        directions=_stacked([view.directions for view in prepared], dim=1, device=device),
        clean_logits=attacked_logits,
        targets=targets,
    )
    with torch.no_grad():
        stored, encoded = _stored_canvases(to_canvases(result.pixels), recipe, pool)
        adv_logits = _score(models, recipe, to_pixels(stored, device))
        vqgan_canvases = to_canvases(result.vqgan_pixels)
        vqgan_top1: list[int] | None = None
        if score_vqgan:
            vqgan_top1 = _score(models, recipe, to_pixels(vqgan_canvases, device)).argmax(1).tolist()
    logits = torch.stack([clean_logits, adv_logits], dim=1)
    usable = (logits.isfinite().all(dim=2).all(dim=1) & result.finite).tolist()
    measured = _measure(recipe, result, logits, labels, targets)
    codes = result.codes.cpu().numpy().astype(np.uint16)
    rows = logits.cpu().numpy()
    views: list[AdversarialView | Unusable] = []
    for i, source in enumerate(prepared):
        if not usable[i]:
            views.append(Unusable(source=source))
            continue
        views.append(
            AdversarialView(
                source=source,
                canvas=np.ascontiguousarray(stored[i].transpose(1, 2, 0)),
                vqgan_canvas=vqgan_canvases[i].transpose(1, 2, 0),
                encoded=encoded[i] if encoded else None,
                codes=codes[i],
                logits=rows[i],
                measured=measured[i],
                teacher_vqgan_top1=vqgan_top1[i] if vqgan_top1 else None,
            )
        )
    return views


def to_pixels(canvases: npt.NDArray[np.uint8], device: torch.device) -> Float[Tensor, "b 3 h w"]:
    """uint8 canvases as pixels in [0,1] on the models' device."""
    return torch.from_numpy(np.ascontiguousarray(canvases)).to(device).float() / 255


def to_canvases(pixels: Float[Tensor, "b 3 h w"]) -> npt.NDArray[np.uint8]:
    """Pixels rounded to uint8 [b, 3, h, w] on the CPU."""
    return (pixels.float() * 255).round().clamp(0, 255).nan_to_num(0).to(torch.uint8).cpu().numpy()


def _score(models: Models, recipe: Recipe, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
    with precision(recipe.compute, models.device):
        return models.teacher(pixels).float()


def _attacked_logits(
    models: Models, recipe: Recipe, clean: Float[Tensor, "b 3 h w"], clean_logits: Float[Tensor, "b c"]
) -> Float[Tensor, "b c"]:
    """The attacked model's logits on the clean view where the attack asks for them; else the teacher's stand in."""
    needed = recipe.attack.objective == "kl" or recipe.attack.target in ("least_likely", "runner_up")
    if models.attacked is models.teacher or not needed:
        return clean_logits
    with precision(recipe.compute, models.device):
        return models.attacked(clean).float()


def _targets(
    recipe: Recipe, prepared: Sequence[PreparedView], logits: Float[Tensor, "b c"], labels: Int[Tensor, "b"]
) -> Int[Tensor, "b"] | None:
    match recipe.attack.target:
        case "none":
            return None
        case "random":
            return torch.tensor([view.target for view in prepared], device=labels.device)
        case "least_likely":
            return least_likely_target(logits, labels)
        case "runner_up":
            return runner_up_target(logits, labels)


def attack_pixels(
    models: Models,
    recipe: Recipe,
    clean: Float[Tensor, "b 3 h w"],
    labels: Int[Tensor, "b"],
    *,
    start: Float[Tensor, "b 3 h w"] | None = None,
    directions: Float[Tensor, "steps b 3 h w"] | None = None,
    clean_logits: Float[Tensor, "b c"] | None = None,
    targets: Int[Tensor, "b"] | None = None,
) -> AttackResult:
    """The recipe's attack on images in [0, 1], each network in its own precision."""
    attack, device = recipe.attack, models.device

    def attacked(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        with precision(recipe.compute, device):
            logits: Tensor = models.attacked(pixels)
        return logits

    with quantizer_precision(recipe.compute, device):
        return discrete_attack(
            clean,
            labels,
            model=attacked,
            quantizer=models.quantizer,
            norm=attack.norm,
            epsilon=attack.epsilon,
            step_size=attack.step_size,
            steps=attack.steps,
            reencode=attack.reencode,
            gradient=attack.gradient,
            objective=attack.objective,
            center=attack.center,
            start=start,
            directions=directions,
            clean_logits=clean_logits,
            targets=targets,
        )


def _stacked(arrays: Sequence[npt.NDArray[np.float32] | None], *, dim: int, device: torch.device) -> Tensor | None:
    present = [torch.from_numpy(array) for array in arrays if array is not None]
    assert len(present) in (0, len(arrays)), "either every view of a recipe has noise or none has"
    return torch.stack(present, dim=dim).to(device) if present else None


def _stored_canvases(
    canvases: npt.NDArray[np.uint8], recipe: Recipe, pool: Executor
) -> tuple[npt.NDArray[np.uint8], list[bytes] | None]:
    """What a reader gets back, and the files where writing them changes pixels."""
    image_format = recipe.store.image
    if image_format == "none" or LOSSLESS[image_format]:
        return canvases, None
    images = [np.ascontiguousarray(canvas.transpose(1, 2, 0)) for canvas in canvases]
    encoded = list(pool.map(lambda image: encode_canvas(image, image_format), images))
    return np.stack(list(pool.map(decode_canvas, encoded))).transpose(0, 3, 1, 2), encoded


def _measure(
    recipe: Recipe,
    result: AttackResult,
    logits: Float[Tensor, "b 2 c"],
    labels: Int[Tensor, "b"],
    targets: Int[Tensor, "b"] | None,
) -> list[dict[str, int | float]]:
    """The measurements that come from tensors, one mapping a view."""
    clean, adversarial = logits[:, 0], logits[:, 1]
    confidence, top1 = logits.softmax(dim=2).max(dim=2)
    objective = recipe.attack.objective
    columns = {
        "teacher_clean_top1": top1[:, 0],
        "teacher_clean_confidence": confidence[:, 0],
        "teacher_adv_top1": top1[:, 1],
        "teacher_adv_confidence": confidence[:, 1],
        "objective_before": attack_objective(objective, clean, labels, clean_logits=clean, targets=targets),
        "objective_after": attack_objective(objective, adversarial, labels, clean_logits=clean, targets=targets),
        "l2": l2_norm(result.perturbation.float()),
        "linf": linf_norm(result.perturbation.float()),
        "codes_changed_by_attack": result.codes_changed(),
    }
    lists = {name: column.tolist() for name, column in columns.items()}
    return [{name: values[i] for name, values in lists.items()} for i in range(len(labels))]
