"""Folders of images against torchvision's ImageFolder."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder as TorchvisionFolder

from dad_datasets.errors import UserError
from dad_datasets.sources import CleanSample, CleanSource, SourceSettings, open_source

JPEG = b"\xff\xd8\xff"


def write_images(root: Path, *names: str) -> None:
    """Files whose bytes say which file they are."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(JPEG + name.encode())


def open_folder_at(root: Path) -> CleanSource:
    return open_source(SourceSettings(path=str(root)))


def read_all(source: CleanSource, samples_per_shard: int = 4) -> list[CleanSample]:
    return [sample for unit in source.plan(samples_per_shard) for sample in source.read(unit)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "my images"
    names = [f"{wnid}/{wnid}_{number}.{extension}" for wnid in ("n2", "n10", "N1") for number, extension in
             enumerate(("JPEG", "jpg", "png", "WebP", "ppm"))]  # fmt: skip
    write_images(root, *names, "n2/deep/er/x.bmp", "n2/notes.txt", "stray.jpg")
    return root


def test_same_files_and_labels_as_torchvision(folder: Path) -> None:
    theirs = TorchvisionFolder(str(folder))
    source = open_folder_at(folder)
    ours = {(str(folder / sample.source_key), sample.label) for sample in read_all(source)}
    assert ours == set(theirs.samples)
    assert source.class_names == tuple(theirs.classes)
    assert source.label_range() == (0, 2)


def test_bytes_and_units(folder: Path) -> None:
    source = open_folder_at(folder)
    units = list(source.plan(6))
    assert [(unit.name, unit.start, unit.count) for unit in units] == [
        ("my%20images-00000", 0, 6),
        ("my%20images-00001", 6, 6),
        ("my%20images-00002", 12, 4),
    ]
    assert all(sample.image == JPEG + sample.source_key.encode() for sample in read_all(source))


def test_order_is_by_hash_of_the_path(folder: Path) -> None:
    keys = [sample.source_key for sample in read_all(open_folder_at(folder))]
    assert keys == sorted(keys, key=lambda key: hashlib.sha256(key.encode()).digest())


def test_hidden_files_and_folders_are_ignored(folder: Path) -> None:
    before = open_folder_at(folder).identity()
    write_images(folder, "n2/._n2_0.JPEG", ".git/x.jpg", "n10/.thumbs/x.jpg")
    assert open_folder_at(folder).identity() == before


def test_links_are_followed_and_loops_end(folder: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere", "a.jpg")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "n2" / "loop").symlink_to(folder / "n2")
    keys = [sample.source_key for sample in read_all(open_folder_at(folder))]
    assert "linked/a.jpg" in keys
    assert not any(key.startswith("n2/loop/loop") for key in keys)


def test_bad_files_become_samples_with_a_problem(folder: Path) -> None:
    (folder / "n2" / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "n2" / "empty.jpg").touch()
    (folder / "n2" / os.fsdecode(b"\xff.jpg")).write_bytes(JPEG)
    problems = {sample.source_key: sample.problem for sample in read_all(open_folder_at(folder)) if sample.problem}
    assert problems == {
        "n2/gone.jpg": "image file cannot be read",
        "n2/empty.jpg": "image is empty",
        "n2/\\xff.jpg": "file name is not UTF-8",
    }


def test_class_without_image_is_refused(folder: Path) -> None:
    (folder / "annotations").mkdir()
    with pytest.raises(UserError, match="class folder annotations holds no image"):
        open_folder_at(folder)


def test_flat_folder_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg")
    with pytest.raises(UserError, match="no class folders"):
        open_source(SourceSettings(path=str(tmp_path), kind="image_folder"))


def test_file_as_folder_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg")
    with pytest.raises(UserError, match="cannot be listed"):
        open_source(SourceSettings(path=str(tmp_path / "a.jpg"), kind="image_folder"))


def test_a_pickled_source_refuses_a_changed_folder(folder: Path) -> None:
    source = open_folder_at(folder)
    unit = next(source.plan(3))
    sent = pickle.dumps(source)
    assert list(pickle.loads(sent).read(unit)) == list(source.read(unit))
    write_images(folder, "n2/added.jpg")
    with pytest.raises(UserError, match="added, removed or changed"):
        list(pickle.loads(sent).read(unit))


def test_identity_sees_names_and_sizes_not_the_place(folder: Path, tmp_path: Path) -> None:
    before = open_folder_at(folder).identity()
    moved = tmp_path / "elsewhere" / folder.name
    moved.parent.mkdir()
    folder.rename(moved)
    assert open_folder_at(moved).identity() == before
    (moved / "n2" / "n2_0.JPEG").write_bytes(JPEG)
    assert open_folder_at(moved).identity() != before
