"""`dad verify` and `dad inspect` on a real dataset, whole and damaged, through the installed command."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_run import run_recipe, tiny_recipe

from dad_datasets.folder import open_folder
from dad_datasets.manifest import read_manifest
from dad_datasets.picture_grid import SHOWN_SIDE
from dad_datasets.replay_choice import choose_views
from dad_datasets.verification import problems
from dad_pipeline.replay import replay

DAD = str(Path(sys.executable).with_name("dad"))


@pytest.fixture(scope="module")
def whole(images: Path, quantizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    run_recipe(tiny_recipe(images, quantizer_folder), out)
    return out


@pytest.fixture
def dataset(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "dataset"))


def found(dataset: Path) -> list[str]:
    folder = open_folder(dataset)
    return list(problems(folder, read_manifest(folder)))


def flip_a_byte(dataset: Path) -> None:
    path = dataset / "shards/tiny-00001.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_a_tar(dataset: Path) -> None:
    path = dataset / "shards/tiny-00001.tar"
    path.write_bytes(path.read_bytes()[:5000])


def lose_a_tar(dataset: Path) -> None:
    (dataset / "shards/tiny-00002.tar").unlink()


def lose_an_index(dataset: Path) -> None:
    (dataset / "index/tiny-00002.parquet").unlink()


def damage_an_index(dataset: Path) -> None:
    (dataset / "index/tiny-00000.parquet").write_bytes(b"PAR1 but no table")


def shift_an_offset(dataset: Path) -> None:
    path = dataset / "index/tiny-00000.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("codes_offset")
    column = [value + 512 if value is not None else None for value in table["codes_offset"].to_pylist()]
    field = table.schema.field(place)
    pq.write_table(table.set_column(place, field, pa.array(column, field.type)), path)


def swap_a_label(dataset: Path) -> None:
    path = dataset / "index/tiny-00000.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("label")
    labels = [(value + 1) % 3 for value in table["label"].to_pylist()]
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(labels, pa.int32())), path)


def lose_the_table(dataset: Path) -> None:
    (dataset / "shards.parquet").unlink()


def edit_the_manifest(dataset: Path) -> None:
    path = dataset / "manifest.json"
    path.write_text(path.read_text().replace('"epsilon": 2.0', '"epsilon": 3.0'))


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "flipped byte": (flip_a_byte, "tiny-00001.tar: its bytes are not those that were written"),
    "truncated tar": (cut_a_tar, "tiny-00001.tar: its bytes are not those that were written"),
    "missing tar": (lose_a_tar, "tiny-00002.tar: the shard is missing"),
    "missing index": (lose_an_index, "tiny-00002.tar: has no index"),
    "damaged index": (damage_an_index, "tiny-00000.parquet: the index is damaged"),
    "shifted offset": (shift_an_offset, "where the index says that its codes"),
    "swapped labels": (swap_a_label, "its .cls is not the index's label"),
    "missing table": (lose_the_table, "the table of shards is missing"),
    "edited manifest": (edit_the_manifest, "its fingerprint is not the hash of its fields"),
}


def test_a_whole_dataset_has_no_problems(whole: Path) -> None:
    assert found(whole) == []


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(dataset: Path, name: str) -> None:
    damage, expected = DAMAGE[name]
    damage(dataset)
    assert any(expected in problem for problem in found(dataset)), found(dataset)


def test_replayed_samples_are_identical(whole: Path) -> None:
    result = subprocess.run([DAD, "verify", str(whole), "--replay", "3"], capture_output=True, text=True, check=True)
    assert "0 problems" in result.stdout
    assert result.stdout.count(": identical") == 3


def test_a_replay_tells_a_forged_sample(dataset: Path) -> None:
    """The hashes of a forged dataset may all agree; computing the samples again shows it."""
    units = sorted(path.stem for path in (dataset / "index").glob("*.parquet"))
    views = choose_views(open_folder(dataset), units, 1, seed=0)
    path = dataset / "index" / f"{views[0][0]}.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("image_sha256")
    forged = pa.array([bytes(32)] * len(table), pa.binary(32))
    pq.write_table(table.set_column(place, table.schema.field(place), forged), path)
    (result,) = replay(str(dataset), views)
    assert not result.image_equal
    assert result.codes_equal_share == 1


def test_verify_exits_with_1_and_names_what_is_wrong(dataset: Path) -> None:
    flip_a_byte(dataset)
    result = subprocess.run([DAD, "verify", str(dataset)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "tiny-00001.tar" in result.stdout
    assert "Traceback" not in result.stderr


def test_inspect_prints_the_figures_and_draws_the_grid(whole: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.png"
    command = [DAD, "inspect", str(whole), "--grid", str(grid), "--pictures", "4"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    for figure in ("clean images", "teacher accuracy, adversarial", "codes changed by the attack", "bytes per view"):
        assert figure in result.stdout
    picture = np.asarray(Image.open(grid))
    # two columns of four pictures; the first is the clean canvas magnified by whole pixels
    assert picture.shape[1] >= 2 * 4 * SHOWN_SIDE
    first = picture[24 : 24 + SHOWN_SIDE, 8 : 8 + SHOWN_SIDE]
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 10


def test_inspect_of_something_else_is_one_sentence(tmp_path: Path) -> None:
    result = subprocess.run([DAD, "inspect", str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "is not a dataset: it has no manifest.json" in result.stderr
    assert "Traceback" not in result.stderr


def test_prepared_shards_give_the_same_images_as_their_source(whole: Path, images: Path, tmp_path: Path) -> None:
    subprocess.run([DAD, "prepare", str(images), str(tmp_path / "clean")], check=True, stdout=subprocess.DEVNULL)
    manifest = read_manifest(open_folder(whole))
    recipe = dict(manifest.recipe) | {"source": {"path": str(tmp_path / "clean")}}
    run_recipe(recipe, tmp_path / "out")

    def hashes(out: Path) -> dict[str, bytes]:
        tables = [pq.read_table(path) for path in (out / "index").glob("*.parquet")]
        return {row["key"]: row["image_sha256"] for table in tables for row in table.to_pylist()}

    assert hashes(tmp_path / "out") == hashes(whole)
    assert read_manifest(open_folder(tmp_path / "out")).clean_sha256 == manifest.clean_sha256
    assert read_manifest(open_folder(tmp_path / "clean")).clean_sha256 == manifest.clean_sha256


def test_inspect_draws_views_whose_measurements_are_not_known(dataset: Path, tmp_path: Path) -> None:
    for path in (dataset / "index").glob("*.parquet"):
        table = pq.read_table(path)
        for name in ("teacher_adv_top1", "teacher_clean_confidence", "codes_changed_by_attack", "psnr_db"):
            at = table.column_names.index(name)
            table = table.set_column(at, table.field(name), pa.nulls(len(table), table.field(name).type))
        pq.write_table(table, path)
    picture = tmp_path / "grid.png"
    ended = subprocess.run([DAD, "inspect", str(dataset), "--grid", str(picture)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert picture.exists()
