"""How a view is stored: which members and columns a recipe asks for, and a model's result turned into them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dad_datasets.image_codec import encode_canvas
from dad_datasets.index import Row, index_schema, inline_logits, record_row, view_cells
from dad_datasets.record import Logits, Provenance, Record, compress_logits, members_of, pixels_sha256
from dad_pipeline.adversarial_views import AdversarialView, CleanScored, Unusable
from dad_pipeline.recipe import Recipe, TopKLogits


def member_extensions(recipe: Recipe) -> tuple[str, ...]:
    """The members that each record of a recipe has in its tar, in order; none where only codes are stored."""
    store = recipe.store
    if store.image == "none":
        return ()
    top_k = () if store.logits == "full" else ("teacher_ids.npy", "teacher_rest.npy")
    codes = ("codes.npy",) if store.codes else ()
    clean = ("clean.webp",) if store.clean else ()
    return (store.image, "cls", "teacher.npy", *top_k, *codes, *clean, "json")


def schema_of(recipe: Recipe) -> pa.Schema:
    """The index's columns: logits (and codes) stand in it where no tar member holds them."""
    inline: dict[str, pa.DataType] = {}
    if recipe.store.image == "none" or not all(recipe.views.attacked):
        inline["teacher"] = pa.list_(pa.float16())
        if recipe.store.logits != "full":
            inline |= {"teacher_ids": pa.list_(pa.uint16()), "teacher_rest": pa.list_(pa.float32())}
    if recipe.store.image == "none":
        inline["codes"] = pa.list_(pa.uint16())
    return index_schema(member_extensions(recipe), inline)


@dataclass(frozen=True, kw_only=True)
class EncodedView:
    """A view as it will be written: its row, and its members by extension (none for failed and clean-only views)."""

    position: int
    key: str
    row: Row
    members: dict[str, bytes]


def encode_view(result: AdversarialView | CleanScored | Unusable, recipe: Recipe) -> EncodedView:
    """Encode the images and write the row of one view."""
    members: dict[str, bytes] = {}
    source = result.source
    if isinstance(result, AdversarialView):
        record = _record(result, recipe)
        row = record_row(record)
        if recipe.store.image == "none":
            assert record.codes is not None
            row |= inline_logits(record.logits) | {"codes": record.codes.ravel()}
        else:
            members = members_of(record, recipe.store.image)
    elif isinstance(result, CleanScored):
        row = _clean_only_row(result, recipe)
    else:
        row = failed_row(source.provenance, source.view.index, result.reason)
    return EncodedView(position=source.position, key=source.provenance.key, row=row, members=members)


def _record(view: AdversarialView, recipe: Recipe) -> Record:
    store = recipe.store
    image = view.encoded
    if image is None and store.image != "none":
        image = encode_canvas(view.canvas, store.image)
    return Record(
        provenance=view.source.provenance,
        view=view.source.view,
        canvas_sha256=view.source.canvas_sha256,
        image=image,
        image_sha256=pixels_sha256(view.canvas),
        codes=view.codes if store.codes else None,
        clean=encode_canvas(view.source.canvas, "webp") if store.clean else None,
        logits=compress_for(view.logits, store.logits),
        measurements=view.measurements(),
        teacher_vqgan_top1=view.teacher_vqgan_top1,
    )


def compress_for(logits: npt.NDArray[np.float32], kept: Literal["full"] | TopKLogits) -> Logits:
    """Logits [n, C] in the form that a recipe stores."""
    if kept == "full":
        return compress_logits(logits, top_k=None, temperatures=())
    return compress_logits(logits, top_k=kept.top_k, temperatures=kept.temperatures)


def _clean_only_row(scored: CleanScored, recipe: Recipe) -> Row:
    logits, source = scored.logits[0].astype(np.float64), scored.source
    return {
        **asdict(source.provenance),
        **view_cells(source.view),
        **inline_logits(compress_for(scored.logits, recipe.store.logits)),
        "status": "clean_only",
        "reason": "",
        "canvas_sha256": source.canvas_sha256,
        "teacher_clean_top1": int(logits.argmax()),
        "teacher_clean_confidence": float(1 / np.exp(logits - logits.max()).sum()),
    }


def failed_row(provenance: Provenance, view_index: int, reason: str) -> Row:
    """The row of a view that could not be used, and why."""
    return {**asdict(provenance), "view": view_index, "status": "failed", "reason": reason}
