"""From the recipe to the record: each setting, each draw and each measurement is the one that it should be.

The attack is called by hand on the stored clean canvases, with what the recipe comes to written out, and draws seeded
by (run seed, source key, view). What the attack, the objectives and the draws do by themselves has tests of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from stored_records import Row, canvas_of, npy, read_all, rows_of
from tiny_run import NUM_CLASSES, RawRecipe, run_recipe
from torch import Tensor

from dad_datasets.seeding import generator_for
from dad_datasets.views import draw_view
from dad_pipeline.attack import AttackResult, discrete_attack
from dad_pipeline.attack_settings import CenterName, GradientMode, ReencodeMode
from dad_pipeline.models import load_models
from dad_pipeline.norms import NormName
from dad_pipeline.objectives import ObjectiveName
from dad_pipeline.quantizer import Quantizer
from dad_pipeline.recipe import Recipe
from dad_pipeline.sample_noise import random_directions, random_start, random_target
from dad_pipeline.teachers import Teacher

SEED, BATCH, EXTENT = 5, 8, (16, 16)
CLASSES = [f"class{label}" for label in range(NUM_CLASSES)]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Attack(TypedDict):
    """The arguments of `discrete_attack` that a recipe decides."""

    norm: NormName
    epsilon: float
    step_size: float
    steps: int
    reencode: ReencodeMode
    gradient: GradientMode
    objective: ObjectiveName
    center: CenterName


@dataclass(frozen=True, kw_only=True)
class Case:
    section: dict[str, Any]
    """`attack` in the recipe."""
    expected: Attack
    start: float = 0.0
    """Probability of a random start."""
    random_steps: bool = False
    targets: Callable[[Array, Ints], Ints] | None = None
    """From the attacked model's logits on the clean canvases, and the labels."""
    random_targets: bool = False
    other_model: bool = False
    """Whether another network is attacked than the one that labels."""


def least_likely(logits: Array, labels: Ints) -> Ints:
    targets: Ints = _without(logits, labels, np.inf).argmin(axis=1)
    return targets


def runner_up(logits: Array, labels: Ints) -> Ints:
    targets: Ints = _without(logits, labels, -np.inf).argmax(axis=1)
    return targets


def _without(logits: Array, labels: Ints, value: float) -> Array:
    others = logits.copy()
    np.put_along_axis(others, labels[:, None], value, axis=1)
    return others


GIVEN: dict[str, Any] = {"epsilon": 2.0, "step_size": 0.6, "steps": 2}
RELEASED = Attack(
    norm="l2",
    epsilon=2.0,
    step_size=0.6,
    steps=2,
    reencode="each_step",
    gradient="at_reconstruction",
    objective="cross_entropy",
    center="reconstruction",
)
STRONG = Attack(
    norm="linf",
    epsilon=0.1,
    step_size=0.02,
    steps=3,
    reencode="final",
    gradient="straight_through",
    objective="cross_entropy",
    center="reconstruction",
)
CASES = {
    "released": Case(section=GIVEN, expected=RELEASED, start=0.8),
    "no random start": Case(section={**GIVEN, "random_start": 0.0}, expected=RELEASED),
    "strong": Case(
        section={"preset": "strong", "epsilon": 0.1, "step_size": 0.02, "steps": 3}, expected=STRONG, start=1.0
    ),
    "noise": Case(section={"preset": "noise", **GIVEN}, expected=RELEASED, start=0.8, random_steps=True),
    "noise like strong": Case(
        section={"preset": "noise", **STRONG, "random_start": 1.0}, expected=STRONG, start=1.0, random_steps=True
    ),
    "kl": Case(section={**GIVEN, "objective": "kl"}, expected={**RELEASED, "objective": "kl"}, start=0.8),
    "kl of another model": Case(
        section={**GIVEN, "objective": "kl"}, expected={**RELEASED, "objective": "kl"}, start=0.8, other_model=True
    ),
    "margin to the runner-up of another model": Case(
        section={**GIVEN, "objective": "margin", "target": "runner_up"},
        expected={**RELEASED, "objective": "margin"},
        start=0.8,
        targets=runner_up,
        other_model=True,
    ),
    "to the least likely class": Case(
        section={**GIVEN, "target": "least_likely"}, expected=RELEASED, start=0.8, targets=least_likely
    ),
    "to a random class": Case(section={**GIVEN, "target": "random"}, expected=RELEASED, start=0.8, random_targets=True),
}


@dataclass(frozen=True)
class Networks:
    teacher: Teacher
    attacked: Teacher
    quantizer: Quantizer


def networks_of(raw: RawRecipe, *, other_model: bool) -> Networks:
    """Loaded as labelling teachers both, whatever the recipe's attack says."""
    plain = {**raw, "attack": {}}
    models = load_models(Recipe.model_validate(plain), CLASSES)
    if not other_model:
        return Networks(models.teacher, models.teacher, models.quantizer)
    other = load_models(Recipe.model_validate({**plain, "teacher": raw["attack"]["model"]}), CLASSES)
    return Networks(models.teacher, other.teacher, models.quantizer)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Records that went through the models together, and the attack on them by hand."""

    rows: list[Row]
    clean: npt.NDArray[np.uint8]
    images: npt.NDArray[np.uint8]
    codes: Ints
    clean_logits: Array
    """Of the teacher, as those below."""
    adversarial_logits: Array
    vqgan_logits: Array
    targets: Ints | None
    attack: AttackResult

    def column(self, name: str) -> Array:
        return np.array([row[name] for row in self.rows], np.float64)


def batches_by_hand(case: Case, raw: RawRecipe, out: Path) -> Iterator[Batch]:
    """Views in the order of their unit, eight to a batch, as float sums come out by batches."""
    networks = networks_of(raw, other_model=case.other_model)
    stored = list(zip(rows_of(out), *(read_all(out, name) for name in ("clean", "image", "codes")), strict=True))
    for _, unit in groupby(stored, lambda record: record[0]["unit"]):
        records = list(unit)
        for first in range(0, len(records), BATCH):
            rows, clean, images, codes = zip(*records[first : first + BATCH], strict=True)
            yield _attacked_by_hand(
                case,
                networks,
                list(rows),
                clean=np.stack([canvas_of(content) for content in clean]),
                images=np.stack([canvas_of(content) for content in images]),
                codes=np.stack([npy(content) for content in codes]).astype(np.int64),
            )


def _attacked_by_hand(
    case: Case,
    networks: Networks,
    rows: list[Row],
    *,
    clean: npt.NDArray[np.uint8],
    images: npt.NDArray[np.uint8],
    codes: Ints,
) -> Batch:
    norm, steps = case.expected["norm"], case.expected["steps"]
    labels = np.array([row["label"] for row in rows])

    def draws(purpose: str) -> list[np.random.Generator]:
        return [generator_for(SEED, row["source_key"], row["view"], purpose) for row in rows]

    start = directions = targets = None
    if case.start:
        start = np.stack([random_start(draw, norm, case.start, EXTENT) for draw in draws("start")])
    if case.random_steps:
        directions = np.stack([random_directions(draw, norm, steps, EXTENT) for draw in draws("directions")], axis=1)
    attacked_logits = _logits(networks.attacked, clean)
    if case.targets is not None:
        targets = case.targets(attacked_logits, labels)
    if case.random_targets:
        each = zip(draws("target"), labels.tolist(), strict=True)
        targets = np.array([random_target(draw, label, NUM_CLASSES) for draw, label in each])
    attack = discrete_attack(
        _pixels(clean),
        torch.from_numpy(labels),
        model=networks.attacked,
        quantizer=networks.quantizer,
        start=None if start is None else torch.from_numpy(start),
        directions=None if directions is None else torch.from_numpy(directions),
        clean_logits=torch.from_numpy(attacked_logits).float(),
        targets=None if targets is None else torch.from_numpy(targets),
        **case.expected,
    )
    return Batch(
        rows=rows,
        clean=clean,
        images=images,
        codes=codes,
        clean_logits=_logits(networks.teacher, clean),
        adversarial_logits=_logits(networks.teacher, images),
        vqgan_logits=_logits(networks.teacher, _canvases(attack.vqgan_pixels)),
        targets=targets,
        attack=attack,
    )


def centred_teacher(folder: Path, raw: RawRecipe, seed: int) -> RawRecipe:
    """A `teacher` section like the recipe's, of random weights whose logits have mean 0 over the images; left as they
    are drawn, such weights give one class to all of them."""
    section = raw["teacher"] | {"seed": seed}
    teacher = load_models(Recipe.model_validate({**raw, "teacher": section, "attack": {}}), CLASSES).teacher
    files = sorted(Path(raw["source"]["path"]).rglob("*.png"))
    images = [Image.open(file).convert("RGB").resize(EXTENT) for file in files]
    logits = _logits(teacher, np.stack([np.asarray(image) for image in images]))
    prefix = "network.1."
    state = teacher.state_dict()
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    weights["fc.bias"] -= torch.from_numpy(logits.mean(axis=0)).float()
    torch.save(weights, folder / f"teacher{seed}.pth")
    return {**section, "checkpoint": str(folder / f"teacher{seed}.pth"), "seed": None}


def _pixels(canvases: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(canvases.transpose(0, 3, 1, 2).astype(np.float32)) / 255


def _canvases(pixels: Tensor) -> npt.NDArray[np.uint8]:
    canvases: npt.NDArray[np.uint8] = np.rint(pixels.numpy().transpose(0, 2, 3, 1) * 255).astype(np.uint8)
    return canvases


def _logits(teacher: Teacher, canvases: npt.NDArray[np.uint8]) -> Array:
    with torch.no_grad():
        logits: Array = teacher(_pixels(canvases)).double().numpy()
    return logits


@pytest.mark.parametrize("name", CASES)
def test_records_are_those_of_the_attack_by_hand(recipe: RawRecipe, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    recipe |= {"seed": SEED, "store": {"clean": True}, "score_vqgan": "all", "attack": dict(case.section)}
    recipe["views"]["draw"] = [{"kind": "random_resized_crop", "count": 2}]
    if case.other_model:
        recipe["attack"]["model"] = centred_teacher(tmp_path, recipe, 1)
    recipe["teacher"] = centred_teacher(tmp_path, recipe, 0)
    run_recipe(recipe, tmp_path / "out")
    for batch in batches_by_hand(case, recipe, tmp_path / "out"):
        np.testing.assert_array_equal(batch.codes, batch.attack.codes.numpy())
        np.testing.assert_array_equal(batch.images, _canvases(batch.attack.pixels))
        _assert_measured(case, batch)


def _assert_measured(case: Case, batch: Batch) -> None:
    added = batch.attack.perturbation.double().flatten(1).numpy()
    labels = batch.column("label").astype(np.int64)
    vqgan = _canvases(batch.attack.vqgan_pixels)
    measured = {
        "l2": np.sqrt((added**2).sum(axis=1)),
        "linf": np.abs(added).max(axis=1),
        "psnr_db": _psnr(batch.images, batch.clean),
        "psnr_vqgan_db": _psnr(vqgan, batch.clean),
        "codes_changed_by_attack": (batch.codes != batch.attack.vqgan_codes.numpy()).mean(axis=(1, 2)),
        "objective_before": _objective(case, batch, batch.clean_logits, labels),
        "objective_after": _objective(case, batch, batch.adversarial_logits, labels),
    }
    for name, expected in measured.items():
        np.testing.assert_allclose(batch.column(name), expected, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(batch.column("teacher_vqgan_top1"), batch.vqgan_logits.argmax(axis=1))


def _psnr(canvases: npt.NDArray[np.uint8], clean: npt.NDArray[np.uint8]) -> Array:
    error = ((canvases.astype(np.float64) - clean) ** 2).mean(axis=(1, 2, 3))
    decibels: Array = 10 * np.log10(255**2 / error)
    return decibels


def _objective(case: Case, batch: Batch, logits: Array, labels: Ints) -> Array:
    """Of the labelling teacher, in nats or logits."""
    log_p, log_clean = _log_softmax(logits), _log_softmax(batch.clean_logits)
    if case.expected["objective"] == "kl":
        divergence: Array = (np.exp(log_clean) * (log_clean - log_p)).sum(axis=1)
        return divergence
    of = labels if batch.targets is None else batch.targets
    places = np.arange(len(of)), of
    is_margin = case.expected["objective"] == "margin"
    away: Array = _without(logits, of, -np.inf).max(axis=1) - logits[places] if is_margin else -log_p[places]
    return away if batch.targets is None else -away


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_p


def test_each_view_is_drawn_by_the_seed_its_key_and_its_number(recipe: RawRecipe, tmp_path: Path) -> None:
    recipe |= {"seed": SEED, "attack": {"preset": "vqgan"}}
    recipe["views"]["draw"] = [{"kind": "centre"}, {"kind": "random_resized_crop", "count": 3}]
    run_recipe(recipe, tmp_path)
    views, boxes = Recipe.model_validate(recipe).views, set()
    kinds = list(views.each())
    for row in rows_of(tmp_path):
        size = Image.open(Path(recipe["source"]["path"]) / row["source_key"]).size
        draw = generator_for(SEED, row["source_key"], row["view"], "view")
        expected = draw_view(kinds[row["view"]], row["view"], views, size, draw)
        box = tuple(row[f"box_{side}"] for side in ("left", "top", "right", "bottom"))
        assert (box, row["flip"]) == (expected.box, expected.flip)
        boxes.add((row["source_key"], row["view"], box))
    drawn = {box for _, view, box in boxes if view}
    assert len(drawn) > 48, "72 random crops of 24 images, most of which differ"
