"""ObjectNet 1.0: which of its folders stand for which ImageNet classes, from its own mapping files."""

from __future__ import annotations

import json
from typing import Any

from PIL import Image

from dad_datasets.benchmarks.class_folders import folders_in
from dad_datasets.errors import UserError
from dad_datasets.sources.source_files import filesystem_of, open_file

NUM_OVERLAPPING = 113
BORDER = 2
"""Pixels of red frame on each side, drawn so that the images are recognised where they must not be trained on."""


def without_border(image: Image.Image) -> Image.Image:
    """The image inside its red frame, as the authors' own loader crops it."""
    return image.crop((BORDER, BORDER, image.width - BORDER, image.height - BORDER))


def read_overlap(path: str, *, origin: str) -> dict[str, tuple[int, ...]]:
    """The ImageNet classes (indices in the usual order) of each folder that overlaps with ImageNet.

    `objectnet_to_imagenet_1k.json` names ImageNet's classes by their long labels, "; " between two; these are lines of
    `imagenet_to_label_2012_v2`, whose order is the challenge's own; `pytorch_to_imagenet_2012_id.json` gives the line
    of each usual index. UserError where a file or folder is missing, or there are not 113 classes.
    """
    folder_to_label = _read_json(path, "folder_to_objectnet_label.json", origin)
    overlap = _read_json(path, "objectnet_to_imagenet_1k.json", origin)
    line_of_index = _read_json(path, "pytorch_to_imagenet_2012_id.json", origin)
    labels = [line.strip() for line in _read(path, "imagenet_to_label_2012_v2", origin).decode().splitlines()]
    if len(overlap) != NUM_OVERLAPPING:
        raise UserError(
            f"{origin}: mappings/objectnet_to_imagenet_1k.json has {len(overlap)} classes; published are "
            f"{NUM_OVERLAPPING}"
        )
    index_of_line = {line: int(index) for index, line in line_of_index.items()}
    index_of_label = {label: index_of_line[line] for line, label in enumerate(labels) if line in index_of_line}
    folder_of_label = {label: folder for folder, label in folder_to_label.items()}
    groups = {}
    for label, imagenet_labels in overlap.items():
        names = imagenet_labels.split("; ")
        if unknown := [name for name in names if name not in index_of_label]:
            raise UserError(f"{origin}: the mappings give ImageNet's {unknown[0]!r} no index")
        if label not in folder_of_label:
            raise UserError(f"{origin}: mappings/folder_to_objectnet_label.json gives {label!r} no folder")
        groups[folder_of_label[label]] = tuple(index_of_label[name] for name in names)
    if missing := sorted(set(groups) - set(folders_in(f"{path}/images", origin=origin))):
        raise UserError(f"{origin}: there is no folder {path}/images/{missing[0]}")
    return dict(sorted(groups.items()))


def _read(path: str, name: str, origin: str) -> bytes:
    filesystem, inner = filesystem_of(path)
    try:
        with open_file(filesystem, f"{inner}/mappings/{name}") as file:
            return file.read()
    except (UserError, OSError):
        raise UserError(f"{origin}: there is no readable {path}/mappings/{name}") from None


def _read_json(path: str, name: str, origin: str) -> dict[str, Any]:
    try:
        mapping = json.loads(_read(path, name, origin))
    except ValueError:
        mapping = None
    if not isinstance(mapping, dict):
        raise UserError(f"{origin}: {path}/mappings/{name} is not a JSON mapping")
    return mapping
