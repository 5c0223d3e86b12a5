"""The views that changed most and least, as pictures."""

from __future__ import annotations

from collections.abc import Sequence

from dad_datasets.manifest import Manifest
from dad_datasets.picture_grid import amplified_difference
from dad_datasets.reporting.dataset_figures import DatasetFigures
from dad_datasets.reporting.extreme_pictures import PicturedView, Pictures
from dad_datasets.reporting.extremes import Place
from dad_datasets.reporting.markup import Child, Markup, element
from dad_datasets.reporting.page import Section
from dad_datasets.reporting.picture import picture

AMPLIFICATION = 4
"""Of the differences: less than in a grid that shows them to the VQGAN's image, whose own error they hold here."""


def shown_places(figures: DatasetFigures) -> dict[str, list[Place]]:
    """The views to show, under the heading that they stand below."""
    codes, psnr = figures.extremes["codes_changed_by_attack"], figures.extremes["psnr_db"]
    return {
        "Most codes changed by the attack": codes.largest,
        "Fewest codes changed by the attack": codes.smallest,
        "Farthest from the clean view (lowest PSNR)": psnr.smallest,
        "Nearest to the clean view (highest PSNR)": psnr.largest,
    }


def pictures_section(manifest: Manifest, figures: DatasetFigures, pictures: Pictures) -> Section:
    """The section; it says why where there is nothing to show."""
    content: list[Child] = []
    if pictures.views:
        explained = (
            f"Each view as it was attacked, as it is stored, and {AMPLIFICATION} times the difference round grey. The "
            "difference holds the VQGAN's own error too, which is most of it where the attack is weak."
        )
        content.append(element("p", explained, class_="note"))
    if pictures.problem:
        content.append(element("p", f"Some pictures are missing: {pictures.problem}.", class_="note"))
    for heading, places in shown_places(figures).items():
        views = [view for place in places if (view := pictures.views.get((place.unit, place.row)))]
        if views:
            content += [element("h3", heading), _group(manifest, views)]
    return Section(title="Pictures", content=content or [element("p", "No view is stored.")])


def _group(manifest: Manifest, views: Sequence[PicturedView]) -> Markup:
    return element("div", *(_triple(manifest, view) for view in views), class_="pictures")


def _triple(manifest: Manifest, view: PicturedView) -> Markup:
    row = view.row
    label = class_name(manifest, row["label"])
    shown = [element("div", picture(view.adversarial, f"{label}, adversarial"), "adversarial")]
    if view.clean is not None:
        difference = amplified_difference(view.adversarial, view.clean, AMPLIFICATION)
        shown.insert(0, element("div", picture(view.clean, f"{label}, clean"), "clean"))
        shown.append(element("div", picture(difference, f"{label}, difference"), "difference"))
    caption = element(
        "figcaption",
        element("strong", label),
        f"teacher: {class_name(manifest, row['teacher_clean_top1'])} {row['teacher_clean_confidence']:.0%} → "
        f"{class_name(manifest, row['teacher_adv_top1'])} {row['teacher_adv_confidence']:.0%}; "
        f"{row['codes_changed_by_attack']:.1%} of the codes changed; {row['psnr_db']:.1f} dB "
        f"(VQGAN alone {row['psnr_vqgan_db']:.1f}); l2 {row['l2']:.2f}",
    )
    return element("figure", element("div", *shown, class_="triple"), caption)


def class_name(manifest: Manifest, label: int) -> str:
    """The name of a class, or its number where it has none."""
    names = manifest.class_names or ()
    return names[label] if 0 <= label < len(names) else f"class {label}"
