"""Adversarial sets as `dad generate` stores them, of photographs, with drawn codes and logits: no model takes part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from photograph_crops import photograph_crops

from dad_datasets.finishing import finish_dataset
from dad_datasets.folder import Folder, LocalFolder
from dad_datasets.image_codec import encode_canvas
from dad_datasets.index import Row, span_cells
from dad_datasets.keys import view_key
from dad_datasets.manifest import Manifest, fingerprint_of
from dad_datasets.record import Provenance, pixels_sha256
from dad_datasets.seeding import generator_for
from dad_datasets.tar_writer import Span, TarWriter
from dad_datasets.views import Canvas, View
from dad_pipeline.adversarial_views import AdversarialView
from dad_pipeline.recipe import Recipe
from dad_pipeline.shard_generation import StageTimes, UnitReport, publish_unit
from dad_pipeline.stored_views import encode_view, schema_of
from dad_pipeline.view_batches import PreparedView

FINGERPRINTED = {"made_by": "benchmarks/stored_set.py"}
FINGERPRINT = fingerprint_of(FINGERPRINTED)


@dataclass(frozen=True, kw_only=True)
class SetForm:
    """What the views of a set look like. `store` is the section of the recipe."""

    size: int
    """Side of the canvas in pixels."""
    factor: int
    num_codes: int
    num_classes: int
    store: dict[str, object] = field(default_factory=dict)

    def recipe(self) -> Recipe:
        """A recipe of that form; its models and source do not exist."""
        return Recipe.model_validate(
            {
                "source": {"path": "none"},
                "views": {"size": self.size, "draw": [{"kind": "centre"}]},
                "teacher": {"kind": "timm", "architecture": "none", "checkpoint": "random", "seed": 0},
                "quantizer": {"checkpoint": "none"},
                "store": self.store,
            }
        )


CIFAR = SetForm(size=32, factor=2, num_codes=4096, num_classes=10)
IMAGENET_F8 = SetForm(size=224, factor=8, num_codes=16384, num_classes=1000)
IMAGENET_F16 = SetForm(size=256, factor=16, num_codes=16384, num_classes=1000)


def adversarial_views(form: SetForm, count: int, *, seed: int = 0) -> list[AdversarialView]:
    """As the models would give them. Codes are drawn uniformly and logits are normal numbers: neither compresses."""
    rng = generator_for("stored set", seed, form.size, form.factor)
    canvases = photograph_crops(form.size, count, seed=seed)
    return [_view(form, number, canvas, rng) for number, canvas in enumerate(canvases)]


def write_unit(folder: Folder, unit: str, views: Sequence[AdversarialView], recipe: Recipe) -> UnitReport:
    """Publish the views' shard and its index, as a run does, but in one thread."""

    def rows(tar: TarWriter | None) -> Iterator[tuple[int, Row]]:
        for view in views:
            encoded = encode_view(view, recipe)
            spans: dict[str, Span] = {}
            if tar is not None:
                spans = {ext: tar.add(f"{encoded.key}.{ext}", content) for ext, content in encoded.members.items()}
            yield encoded.position, encoded.row | span_cells(spans)

    return publish_unit(
        unit,
        rows,
        folder=folder,
        fingerprint=FINGERPRINT,
        schema=schema_of(recipe),
        num_rows=len(views),
        has_tar=recipe.store.image != "none",
        times=StageTimes(),
    )


def write_set(path: Path, form: SetForm, *, units: int, views_per_unit: int) -> None:
    """A finished set that `open_pairs` opens, without clean data. Views beyond the first unit's repeat its pictures."""
    recipe, folder = form.recipe(), LocalFolder(path)
    views = adversarial_views(form, views_per_unit)
    if recipe.store.image != "none":
        views = [replace(view, encoded=encode_canvas(view.canvas, recipe.store.image)) for view in views]
    names = [f"train-{number:05d}" for number in range(units)]
    for name in names:
        write_unit(folder, name, [_in_unit(view, name) for view in views], recipe)
    manifest = Manifest(
        kind="adversarial",
        state="running",
        fingerprint=FINGERPRINT,
        fingerprinted=FINGERPRINTED,
        recipe=recipe.model_dump(mode="json"),
        class_names=None,
        num_classes=form.num_classes,
        shards=0,
        samples=0,
        clean_sha256="",
    )
    finish_dataset(folder, manifest, names)


def _view(form: SetForm, number: int, canvas: Canvas, rng: np.random.Generator) -> AdversarialView:
    side = form.size // form.factor
    logits = (3 * rng.standard_normal((2, form.num_classes))).astype(np.float32)
    source = PreparedView(
        position=number,
        provenance=_provenance("train-00000", number, label=number % form.num_classes),
        view=View(index=0, box=(0, 0, form.size, form.size), size=form.size, resize="bicubic", flip=False),
        canvas=canvas,
        canvas_sha256=pixels_sha256(canvas),
        start=None,
        directions=None,
        target=None,
    )
    return AdversarialView(
        source=source,
        canvas=canvas,
        vqgan_canvas=canvas,
        encoded=None,
        codes=rng.integers(0, form.num_codes, (side, side)).astype(np.uint16),
        logits=logits,
        measured=_measured(rng, logits),
        teacher_vqgan_top1=None,
    )


def _measured(rng: np.random.Generator, logits: npt.NDArray[np.float32]) -> dict[str, int | float]:
    top1 = logits.argmax(axis=1).tolist()
    names = (
        "teacher_clean_confidence",
        "teacher_adv_confidence",
        "objective_before",
        "objective_after",
        "l2",
        "linf",
        "codes_changed_by_attack",
    )
    drawn = dict(zip(names, rng.random(len(names), dtype=np.float32).tolist(), strict=True))
    return {"teacher_clean_top1": top1[0], "teacher_adv_top1": top1[1], **drawn}


def _provenance(unit: str, number: int, *, label: int) -> Provenance:
    source_key = f"{unit}/{number:08d}"
    return Provenance(
        key=view_key(source_key, 0),
        source_key=source_key,
        source_shard=f"{unit}.tar",
        label=label,
        source_sha256=hashlib.sha256(source_key.encode()).digest(),
    )


def _in_unit(view: AdversarialView, unit: str) -> AdversarialView:
    source = view.source
    provenance = _provenance(unit, source.position, label=source.provenance.label)
    return replace(view, source=replace(source, provenance=provenance))
