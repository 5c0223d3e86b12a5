"""`README.md` of a prepared clean set: for people, and for Hugging Face `datasets`, which reads its header."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow.compute as pc

from dad_datasets.card_markdown import fenced, markdown_table, one_line, yaml_text
from dad_datasets.folder import Folder
from dad_datasets.hugging_face import clean_yaml_header
from dad_datasets.index import read_index
from dad_datasets.layout import DATA_CARD, MANIFEST, SHARDS
from dad_datasets.manifest import Manifest
from dad_datasets.reporting.clean_figures import CleanFigures
from dad_datasets.sources.image_types import IMAGE_TYPES

MOST_REASONS = 20


def write_clean_card(folder: Folder, manifest: Manifest, figures: CleanFigures, units: Iterable[str]) -> None:
    """Publish README.md, the same bytes for equal sets."""
    with folder.publish(DATA_CARD) as stream:
        stream.write(clean_card(manifest, figures, stored_types(folder, units)).encode())


def stored_types(folder: Folder, units: Iterable[str]) -> list[str]:
    """Types of the usable images, sorted, as their members are called: jpg, png, ..."""
    types: set[str] = set()
    for unit in units:
        rows = read_index(folder, unit)
        if "image_type" not in rows.column_names:  # it came later than the format
            return sorted(IMAGE_TYPES)
        types.update(pc.drop_null(rows["image_type"]).unique().to_pylist())
    return sorted(types)


def clean_card(manifest: Manifest, figures: CleanFigures, types: Sequence[str]) -> str:
    """The card as Markdown below a YAML header, which makes Hugging Face load the shards and nothing else."""
    source = manifest.recipe.get("source", {})
    path = str(source.get("path", "unknown"))
    counts = [
        ("images", f"{figures.images:,}"),
        ("classes", f"{manifest.num_classes:,}"),
        ("shards", f"{manifest.shards:,}"),
        ("bytes", f"{figures.tar_bytes:,}"),
        ("unusable samples", f"{figures.failed:,}"),
        *((f"  {reason}", f"{count:,}") for reason, count in figures.reasons.most_common(MOST_REASONS)),
    ]
    parts = [
        f"---\n{yaml_text(clean_yaml_header(manifest, types, num_images=figures.images))}---",
        "# Prepared clean images",
        f"{figures.images:,} images of {manifest.num_classes:,} classes, their bytes as they were in {one_line(path)}, "
        f"in {manifest.shards:,} shards in format version {manifest.format_version}. `dad prepare` made them; "
        "`dad generate` and `dad train` take this folder as a source.",
        "## Figures",
        markdown_table(("", ""), [(name.strip(), figure) for name, figure in counts]),
        "## How to read it",
        _reading(types),
        "## Where it comes from",
        "Source, names of the classes and a hash over all keys and images stand in "
        f"`{MANIFEST}`. The licence of the images is their source's, and is not known here: whoever passes this set on "
        "has to find out first.",
    ]
    return "\n\n".join(parts) + "\n"


def _reading(types: Sequence[str]) -> str:
    image = types[0] if types else "jpg"
    code = (
        "from datasets import load_dataset\n\n"
        'images = load_dataset("path/to/this/folder", split="train")\n'
        f'images[0]["{image}"], images[0]["cls"]'
    )
    members = ", ".join(f"`{name}`" for name in types)
    rows = [
        (members, "the image" + (", in one of these; the others are None" if len(types) > 1 else "")),
        ("`cls`", "the label"),
        ("`json`", "source key"),
    ]
    return (
        fenced("python", code)
        + f"\n\n`{SHARDS}/*.tar` is plain WebDataset; `index/` has a row for each sample, unusable ones too.\n\n"
        + markdown_table(("member", ""), rows)
    )
