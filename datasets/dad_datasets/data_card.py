"""`README.md` of an adversarial dataset: for people, and for Hugging Face `datasets`, which reads its header."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from dad_datasets.card_markdown import fenced, markdown_table, one_line, yaml_text
from dad_datasets.card_settings import CardSettings, OriginSettings
from dad_datasets.folder import Folder
from dad_datasets.hugging_face import yaml_header
from dad_datasets.layout import DATA_CARD, MANIFEST, REPORT, SHARDS
from dad_datasets.manifest import Manifest
from dad_datasets.recipe_words import in_words
from dad_datasets.settings import build_settings
from dad_datasets.summary import DatasetSummary, summary_rows

DEFAULT_NAME = "Discrete adversarial images"


def write_data_card(
    folder: Folder, manifest: Manifest, summary: DatasetSummary, *, columns: Collection[str], note: str = ""
) -> None:
    """Publish README.md, the same bytes for equal datasets. `columns` are those of the indexes."""
    with folder.publish(DATA_CARD) as stream:
        stream.write(data_card(manifest, summary, columns=columns, note=note).encode())


def data_card(manifest: Manifest, summary: DatasetSummary, *, columns: Collection[str], note: str = "") -> str:
    """The card as Markdown below a YAML header, which makes Hugging Face load the shards and nothing else.

    `note` is Markdown that follows what the recipe says of how the dataset was made.
    """
    card = build_settings(CardSettings, manifest.recipe.get("card", {}), origin=f"{MANIFEST}: recipe.card")
    header = yaml_header(manifest, card, num_records=summary.status["ok"], columns=columns)
    parts = [
        f"---\n{yaml_text(header)}---",
        f"# {one_line(card.pretty_name or DEFAULT_NAME)}",
        _introduction(manifest, summary),
        *([card.notes] if card.notes else []),
        "## Figures",
        markdown_table(("", ""), [(name.strip(), figure) for name, figure in summary_rows(summary)]),
        f"`{REPORT}` shows them with pictures and by class.",
        "## How to read it",
        _reading(manifest, columns),
        "## How it was made",
        markdown_table(("", ""), list(in_words(manifest.recipe).items())),
        *([note] if note else []),
        "## Where it comes from",
        _origins(manifest, card),
        "## Intended use and limits",
        _limits(summary),
        "## Recipe",
        fenced("yaml", yaml_text(json.loads(json.dumps(manifest.recipe, sort_keys=True)))),
    ]
    return "\n\n".join(parts) + "\n"


def _introduction(manifest: Manifest, summary: DatasetSummary) -> str:
    return (
        f"{summary.status['ok']:,} adversarial views of {manifest.samples:,} clean images, {manifest.num_classes:,} "
        f"classes, {manifest.shards:,} shards in format version {manifest.format_version}. Each view was attacked to "
        "raise a teacher's loss and snapped to the codes of a VQGAN (Discrete Adversarial Distillation, Zhou et al., "
        "NeurIPS 2023, arXiv 2311.01441). Students learn from the pictures and from the teacher's logits on them, "
        "which are stored beside them."
    )


def _reading(manifest: Manifest, columns: Collection[str]) -> str:
    if "image_offset" not in columns:
        return (
            "This set stores codes and logits in its indexes and no images. `dad expand` decodes it to image shards "
            "with the quantizer that travels with it."
        )
    image = manifest.recipe["store"]["image"]
    code = (
        "from datasets import load_dataset\n\n"
        'views = load_dataset("path/to/this/folder", split="train")\n'
        f'views[0]["{image}"], views[0]["cls"]'
    )
    rows = [
        (f"`{image}`", "the adversarial image"),
        ("`cls`", "the label"),
        ("`teacher.npy`", "the teacher's logits on the clean view and on the stored image, each row minus its maximum"),
        ("`teacher_ids.npy`, `teacher_rest.npy`", "the classes of these logits, and the mass of the others"),
        ("`codes.npy`", "the VQGAN's codes of the image"),
        ("`clean.webp`", "the clean view"),
        ("`json`", "source key, view, hashes, measurements"),
    ]
    absent = [stem for stem in ("teacher_ids", "codes", "clean") if f"{stem}_offset" not in columns]
    present = [row for row in rows if not any(f"`{stem}." in row[0] for stem in absent)]
    return (
        fenced("python", code)
        + f"\n\n`{SHARDS}/*.tar` is plain WebDataset; `index/` has a row for each view, failed ones too.\n\n"
        + markdown_table(("member", ""), present)
    )


def _origins(manifest: Manifest, card: CardSettings) -> str:
    words, weights = in_words(manifest.recipe), manifest.fingerprinted.get("weights", {})
    origins: Mapping[str, OriginSettings] = {
        "source": card.source,
        "teacher": card.teacher,
        "quantizer": card.quantizer,
    }
    rows = [
        (
            what,
            origin.name or words.get(what, "not stated"),
            origin.license or "not stated",
            origin.url or "not stated",
            f"`{weights[what]}`" if what in weights else "",
        )
        for what, origin in origins.items()
    ]
    unstated = [what for what, origin in origins.items() if origin.license is None]
    caution = (
        f"\n\nThe recipe does not state the licence of: {', '.join(unstated)}. Whoever passes this dataset on has to "
        "find out first: the images are made from the source's, and by these weights."
        if unstated
        else ""
    )
    return (
        markdown_table(("", "name", "licence", "from", "sha256 of the weights"), rows)
        + f"\n\nThis dataset's own licence: {one_line(card.license or 'not stated')}. Hashes of all inputs and the "
        f"versions of the libraries stand in `{MANIFEST}`." + caution
    )


def _limits(summary: DatasetSummary) -> str:
    means = summary.means
    right, psnr = means.get("teacher accuracy, adversarial"), means.get("PSNR, VQGAN alone")
    return "\n".join(
        [
            "- Made to train image classifiers by distillation, and to study what such training does.",
            "- No benchmark of robustness: the attack was made against one teacher, and other models meet it "
            "differently.",
            "- The labels are the source's. The teacher is "
            + (f"right on {right.value:.1%} of the adversarial views" if right and right.count else "not always right")
            + ", so its logits and the label often disagree; that is what the attack is for.",
            "- The VQGAN alters every image, attacked or not"
            + (f" (PSNR of its round trip {psnr.value:.1f} dB on average)" if psnr and psnr.count else "")
            + ": faces, writing and fine texture suffer most.",
            "- The logits are exact for the stored view only, not for further crops or colours.",
            "- What is biased in the source, the teacher or the quantizer is biased here.",
        ]
    )
