"""The form in which a dataset stores its views, as far as reading depends on it: from the recipe in its manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dad_datasets.decoding import MAX_PIXELS
from dad_datasets.errors import UserError
from dad_datasets.manifest import Manifest
from dad_datasets.settings import build_settings
from dad_datasets.views import ResizeName, ViewsSettings


@dataclass(frozen=True, kw_only=True)
class StoredForm:
    """`top_k` is None where all logits are stored; `temperatures` are those at which the mass left out is stored."""

    size: int
    resize: ResizeName
    max_pixels: int
    has_images: bool
    num_classes: int
    top_k: int | None
    temperatures: tuple[float, ...]

    @property
    def row_widths(self) -> dict[str, int]:
        """Numbers in one row of logits, by member."""
        if self.top_k is None:
            return {"teacher": self.num_classes}
        return {"teacher": self.top_k, "teacher_ids": self.top_k, "teacher_rest": len(self.temperatures)}

    def rest_column(self, temperature: float) -> int:
        """Where the mass left out at `temperature` stands. UserError where top-k logits were stored for others."""
        if temperature not in self.temperatures:
            stored = ", ".join(f"{value:g}" for value in self.temperatures)
            raise UserError(
                f"temperature {temperature:g}: these shards keep the {self.top_k} largest logits, and the mass of the "
                f"others for temperature {stored} alone"
            )
        return self.temperatures.index(temperature)


def stored_form(manifest: Manifest, *, origin: str) -> StoredForm:
    """The form of an adversarial dataset. UserError naming `origin` where its recipe is not one of ours."""
    recipe = manifest.recipe
    views = build_settings(ViewsSettings, recipe["views"], origin=f"{origin}: views")
    store = recipe["store"]
    try:
        has_images = store["image"] != "none"
        top_k, temperatures = _kept(store["logits"], manifest.num_classes)
        max_pixels = int(recipe.get("max_image_pixels", MAX_PIXELS))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{origin}: store is {store!r}; expected what `dad generate` writes there") from None
    return StoredForm(
        size=views.size,
        resize=views.resize,
        max_pixels=max_pixels,
        has_images=has_images,
        num_classes=manifest.num_classes,
        top_k=top_k,
        temperatures=temperatures,
    )


def with_labels(form: StoredForm, logits: object, *, origin: str) -> StoredForm:
    """`form` with the logits of labels, which keep of them what their recipe says; UserError where that is not ours."""
    try:
        top_k, temperatures = _kept(logits, form.num_classes)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{origin}: logits is {logits!r}; expected what `dad label` writes there") from None
    return replace(form, top_k=top_k, temperatures=temperatures)


def _kept(logits: Any, num_classes: int) -> tuple[int | None, tuple[float, ...]]:
    if logits == "full":
        return None, ()
    if int(logits["top_k"]) < 1:
        raise ValueError
    return min(int(logits["top_k"]), num_classes), tuple(float(value) for value in logits["temperatures"])
