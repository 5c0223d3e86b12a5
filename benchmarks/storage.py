"""Bytes of a stored view in every storage mode, on photographs.

    python benchmarks/storage.py --out benchmarks/results/speed

Tar and index, over one shard of each mode. The photographs stand in for decoded adversarial images, which are smoother
and take less. Codes are drawn uniformly from the codebook and logits from a normal distribution, which is the worst
that can be met.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from measurement import Figure, SideTable, SpeedResult, publish
from stored_set import IMAGENET_F8, IMAGENET_F16, SetForm, adversarial_views, write_unit

from dad_datasets.folder import LocalFolder

VIEWS, VIEWS_WITH_IMAGES = 1000, 200

FORMS = {
    "f8 at 224 px": IMAGENET_F8,
    "f16 at 224 px": replace(IMAGENET_F16, size=224),
    "f8 at 256 px": replace(IMAGENET_F8, size=256),
    "f16 at 256 px": IMAGENET_F16,
}

TOP_10 = {"top_k": 10}

MODES: dict[str, dict[str, object]] = {
    "codes and top-10 logits": {"image": "none", "logits": TOP_10},
    "codes and full logits": {"image": "none"},
    "JPEG, codes, full logits": {"image": "jpg"},
    "WebP, top-10 logits, no codes": {"image": "webp", "codes": False, "logits": TOP_10},
    "WebP, codes, top-10 logits": {"image": "webp", "logits": TOP_10},
    "WebP, codes, full logits (default)": {"image": "webp"},
    "PNG, codes, full logits": {"image": "png"},
    "WebP, codes, full logits, clean canvas": {"image": "webp", "clean": True},
}

CLAIMED_GB = {
    ("codes and full logits", "f8 at 224 px"): 7.1,
    ("codes and top-10 logits", "f8 at 224 px"): 2.1,
    ("codes and full logits", "f16 at 256 px"): 5.8,
    ("codes and top-10 logits", "f16 at 256 px"): 0.8,
}
"""What the format is said to take for one view of each of ImageNet's training images, to one decimal."""

IMAGENET_IMAGES = 1_281_167


def bytes_per_view(form: SetForm, store: dict[str, object], views: int) -> tuple[float, float]:
    """Of the tar and of the index."""
    stored = replace(form, store=store)
    with tempfile.TemporaryDirectory() as temporary:
        report = write_unit(
            LocalFolder(Path(temporary)), "train-00000", adversarial_views(form, views), stored.recipe()
        )
    return report.tar_bytes / views, report.index_bytes / views


def storage_figures(modes: Sequence[str], views: int, views_with_images: int) -> tuple[list[Figure], SideTable]:
    """Those for which a size is claimed, and the table of all."""
    figures, rows = [], []
    for mode in modes:
        count = views if MODES[mode]["image"] == "none" else views_with_images
        sizes = {form: bytes_per_view(FORMS[form], MODES[mode], count) for form in FORMS}
        rows.append((mode, *(f"{tar + index:,.0f}" for tar, index in sizes.values())))
        for form, (tar, index) in sizes.items():
            if (mode, form) in CLAIMED_GB:
                figures.append(_claimed_figure(mode, form, tar + index))
    return figures, SideTable(title="Bytes of a view, tar and index", columns=("stored", *FORMS), rows=tuple(rows))


def _claimed_figure(mode: str, form: str, size: float) -> Figure:
    return Figure(
        name=f"storage of ImageNet-1k, one view, {form}: {mode}",
        value=round(size * IMAGENET_IMAGES / 1e9, 1),
        unit="GB",
        at_most=CLAIMED_GB[mode, form],
        note=f"{size:,.0f} bytes a view",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for storage.json")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it works")
    arguments = parser.parse_args()
    modes = list(MODES)
    figures, table = (
        storage_figures(modes[:1], 2, 2) if arguments.small else storage_figures(modes, VIEWS, VIEWS_WITH_IMAGES)
    )
    libraries = ("numpy", "pillow", "pyarrow")
    result = SpeedResult.here(
        "storage", "Storage", figures, libraries=libraries, seeds=(0,), small=arguments.small, tables=[table]
    )
    publish(arguments.out, result)


if __name__ == "__main__":
    main()
