"""The folders of ImageNet-1k's validation set and its variants, in the layouts in which they are published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dad_datasets.benchmarks.benchmark import Condition
from dad_datasets.benchmarks.class_folders import ClassFolders, folders_in
from dad_datasets.benchmarks.class_mapping import StudentClasses
from dad_datasets.benchmarks.corruption_names import CorruptionName
from dad_datasets.benchmarks.settings import ImageNetFolderKind
from dad_datasets.errors import UserError

NUM_CLASSES = 1000
NUM_FOLDERS: Mapping[ImageNetFolderKind, int] = {
    "imagenet_val": 1000,
    "imagenet_v2": 1000,
    "imagenet_a": 200,
    "imagenet_r": 200,
    "imagenet_sketch": 1000,
    "imagenet_stylized": 1000,
}


def check_student(student: StudentClasses, wnids: Sequence[str], *, origin: str) -> None:
    """UserError unless the student has ImageNet's 1000 classes, in the usual order where its names tell."""
    assert len(wnids) == NUM_CLASSES, "the WordNet ids of ImageNet-1k in label order"
    if student.count != NUM_CLASSES:
        raise UserError(f"{origin}: needs a student with ImageNet's {NUM_CLASSES} classes; it has {student.count}")
    if student.names is not None and student.names != tuple(wnids) and set(student.names) == set(wnids):
        raise UserError(f"{origin}: the student has ImageNet's classes in an order of its own, not that of their ids")


def folder_classes(kind: ImageNetFolderKind, path: str, wnids: Sequence[str], *, origin: str) -> dict[str, int]:
    """ImageNet's class index of each folder of `path`, in index order.

    UserError where folders are not named as published, or are not as many.
    """
    folders = folders_in(path, origin=origin)
    names = [str(index) for index in range(NUM_CLASSES)] if kind == "imagenet_v2" else wnids
    indices = {name: index for index, name in enumerate(names)}
    if strange := [folder for folder in folders if folder not in indices]:
        expected = "0 to 999" if kind == "imagenet_v2" else "WordNet ids of ImageNet's classes, such as n01440764"
        raise UserError(f"{origin}: folder {strange[0]} in {path} is no class; expected {expected}")
    if len(folders) != NUM_FOLDERS[kind]:
        raise UserError(f"{origin}: {path} has {len(folders)} class folders; published are {NUM_FOLDERS[kind]}")
    return {folder: indices[folder] for folder in sorted(folders, key=indices.__getitem__)}


def imagenet_c_images(
    path: str, names: Sequence[CorruptionName], severities: Sequence[int], wnids: Sequence[str], *, origin: str
) -> dict[Condition, ClassFolders]:
    """The images of each condition of ImageNet-C. UserError where a corruption, severity or class is missing."""
    found = {}
    for name in names:
        for severity in severities:
            folder = f"{path}/{name}/{severity}"
            labels = folder_classes("imagenet_val", folder, wnids, origin=origin)
            found[Condition(corruption=name, severity=severity)] = ClassFolders(folder, labels, origin=origin)
    return found
