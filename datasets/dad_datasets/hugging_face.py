"""The YAML by which Hugging Face `datasets` loads a finished folder: which files, and what their members are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from dad_datasets.card_settings import CardSettings
from dad_datasets.layout import SHARDS
from dad_datasets.manifest import Manifest
from dad_datasets.record import Measurements
from dad_datasets.views import View

MOST_CLASS_NAMES = 5000
"""With more of them the labels are plain numbers: the header must stay small."""

UNKNOWN_LICENSE = "unknown"
"""As Hugging Face writes it."""

Feature = dict[str, Any]

_MATRICES = {"teacher": "float16", "teacher_ids": "uint16", "teacher_rest": "float32", "codes": "uint16"}
_READER_ADDS: tuple[Feature, ...] = ({"name": "__key__", "dtype": "string"}, {"name": "__url__", "dtype": "string"})
_TYPES = {"int": "int64", "float": "float64", "bool": "bool"}


def yaml_header(manifest: Manifest, card: CardSettings, *, num_records: int, columns: Collection[str]) -> Feature:
    """The header of the data card. `columns` are those of the indexes, which say what members the shards have."""
    header = _described(card.license, ("adversarial", "knowledge-distillation"), num_records)
    if card.pretty_name is not None:
        header = {"pretty_name": card.pretty_name, **header}
    return header | _loaded(features(manifest, columns)) if "image_offset" in columns else header


def clean_yaml_header(manifest: Manifest, types: Sequence[str], *, num_images: int) -> Feature:
    """The header of a prepared set's card. `types` are those of the images, each the name of a member."""
    members: list[Feature] = [
        *({"name": name, "dtype": "image"} for name in types),
        {"name": "cls", "dtype": _label(manifest)},
        {"name": "json", "struct": [{"name": "source_key", "dtype": "string"}]},
        *_READER_ADDS,
    ]
    return _described(None, (), num_images) | _loaded(members)


def _described(license_: str | None, tags: Sequence[str], num_records: int) -> Feature:
    return {
        "license": license_ or UNKNOWN_LICENSE,
        "task_categories": ["image-classification"],
        "tags": ["webdataset", *tags],
        "size_categories": [size_category(num_records)],
    }


def _loaded(members: list[Feature]) -> Feature:
    """What makes the library load the shards alone, as `members`."""
    data_files = [{"split": "train", "path": f"{SHARDS}/*.tar"}]
    return {
        "configs": [{"config_name": "default", "data_files": data_files}],
        "dataset_info": {"config_name": "default", "features": members},
    }


def features(manifest: Manifest, columns: Collection[str]) -> list[Feature]:
    """The members of a record and their types: without them labels would have no names, and types would be guessed."""
    members: list[Feature] = [
        {"name": manifest.recipe["store"]["image"], "dtype": "image"},
        {"name": "cls", "dtype": _label(manifest)},
        *(
            {"name": f"{stem}.npy", "list": {"list": kind}}
            for stem, kind in _MATRICES.items()
            if f"{stem}_offset" in columns
        ),
    ]
    if "clean_offset" in columns:
        members.append({"name": "clean.webp", "dtype": "image"})
    return [*members, {"name": "json", "struct": _document()}, *_READER_ADDS]


def size_category(num_records: int) -> str:
    """The range of Hugging Face's list that holds a number of records."""
    ends = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
    above = [end for place, end in enumerate(ends) if num_records >= 10 ** (place + 3)]
    if not above:
        return "n<1K"
    return "n>1T" if len(above) == len(ends) else f"{above[-1]}<n<{ends[len(above)]}"


def _label(manifest: Manifest) -> str | Feature:
    names = manifest.class_names
    # The library takes names only where no two are equal; open_clip's for ImageNet have two missiles.
    if names is None or len(set(names)) < len(names) or len(names) > MOST_CLASS_NAMES:
        return "int64"
    return {"class_label": {"names": {str(label): name for label, name in enumerate(names)}}}


def _document() -> list[Feature]:
    """What `dad_datasets.record.json_bytes` writes."""
    view: list[Feature] = [
        {"name": field.name, "list": "int64"}
        if field.name == "box"
        else {"name": field.name, "dtype": _TYPES.get(str(field.type), "string")}
        for field in fields(View)
    ]
    measured = [{"name": field.name, "dtype": _TYPES[str(field.type)]} for field in fields(Measurements)]
    return [
        {"name": "source_key", "dtype": "string"},
        {"name": "source_shard", "dtype": "string"},
        {"name": "label", "dtype": "int64"},
        {"name": "view", "struct": view},
        *({"name": f"{what}_sha256", "dtype": "string"} for what in ("source", "canvas", "image")),
        {"name": "measurements", "struct": measured},
    ]
