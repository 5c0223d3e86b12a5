"""`dad expand` on real sets of codes: against the same recipe generated with images, interrupted, and mistaken."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from tiny_run import RawRecipe, dataset_bytes, run_recipe, tiny_recipe, write_images, write_quantizer
from tiny_training import checkpoint, train, training_recipe

from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.index import ShardSummary
from dad_datasets.lease import only_writer
from dad_datasets.manifest import read_manifest, write_manifest
from dad_datasets.shard_reader import open_shard
from dad_datasets.verification import problems
from dad_pipeline.expansion import expanded_unit, expansion_run
from dad_pipeline.expansion.expanded_unit import Expansion, expand_unit
from dad_pipeline.expansion.expansion_run import expand_dataset
from dad_pipeline.quantizer import Quantizer
from dad_pipeline.replay import replay
from dad_pipeline.shard_generation import UnitReport
from dad_pipeline.teachers import Teacher

DAD = str(Path(sys.executable).with_name("dad"))

TOP_K = {"top_k": 2, "temperatures": [1.0, 4.0]}


@pytest.fixture(scope="module")
def raw(quantizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RawRecipe:
    """24 images and one that is none; two attacked views of each and a clean-only one."""
    images = write_images(tmp_path_factory.mktemp("clean") / "tiny")
    (images / "class1/broken.png").write_bytes(b"no image")
    recipe = tiny_recipe(images, quantizer_folder)
    recipe["views"]["draw"] += [{"kind": "pad_crop", "attack": False}]
    return recipe | {"max_failure_rate": 0.5}


def generated(raw: RawRecipe, out: Path, **store: object) -> Path:
    complete, screen = run_recipe(raw | {"store": store}, out)
    assert complete, screen
    return out


@pytest.fixture(scope="module")
def images_set(raw: RawRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated(raw, tmp_path_factory.mktemp("images") / "set")


@pytest.fixture(scope="module")
def codes_set(raw: RawRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated(raw, tmp_path_factory.mktemp("codes") / "set", image="none")


@pytest.fixture(scope="module")
def expanded_set(codes_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("expanded") / "set"
    expand(codes_set, out)
    return out


@pytest.fixture
def copied(codes_set: Path, tmp_path: Path) -> Path:
    """The set of codes, to be damaged."""
    return Path(shutil.copytree(codes_set, tmp_path / "codes"))


def expand(codes: Path, out: Path, **options: Any) -> str:
    """What the user saw."""
    screen = io.StringIO()
    expand_dataset(str(codes), str(out), console=Console(file=screen, width=200), **options)
    return screen.getvalue()


def found(dataset: Path) -> list[str]:
    folder = open_folder(dataset)
    return list(problems(folder, read_manifest(folder)))


def same_images_and_rows(one: Path, other: Path) -> None:
    """Tars of equal bytes, indexes of equal rows and columns; their metadata names another run."""
    tars = {path.name: path.read_bytes() for path in one.glob("shards/*.tar")}
    assert tars
    assert tars == {path.name: path.read_bytes() for path in other.glob("shards/*.tar")}
    for path in one.glob("index/*.parquet"):
        assert pq.read_table(path).equals(pq.read_table(other / "index" / path.name)), path.name


def change_index(path: Path, column: str, change: Callable[[list[Any]], list[Any]]) -> None:
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    cells = pa.array(change(table[column].to_pylist()), table.schema.field(place).type)
    pq.write_table(table.set_column(place, table.schema.field(place), cells), path)


def test_expanding_gives_what_generating_with_images_gives(images_set: Path, expanded_set: Path) -> None:
    same_images_and_rows(images_set, expanded_set)
    statuses = [row["status"] for path in images_set.glob("index/*") for row in pq.read_table(path).to_pylist()]
    assert {status: statuses.count(status) for status in set(statuses)} == {"ok": 48, "clean_only": 24, "failed": 3}


@pytest.mark.parametrize(
    ("image_format", "logits", "precision"), [("webp", TOP_K, "float32"), ("png", "full", "bfloat16")]
)
def test_every_form_of_logits_images_and_arithmetic(
    raw: RawRecipe, tmp_path: Path, image_format: str, logits: object, precision: str
) -> None:
    raw = raw | {"compute": raw["compute"] | {"precision": precision}}
    images = generated(raw, tmp_path / "images", image=image_format, logits=logits)
    codes = generated(raw, tmp_path / "codes", image="none", logits=logits)
    expand(codes, tmp_path / "expanded", image_format=image_format)
    same_images_and_rows(images, tmp_path / "expanded")


def test_a_view_without_a_finite_result_keeps_its_place_in_the_batch(
    raw: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Teacher.forward

    def sometimes_nothing(self: Teacher, pixels: torch.Tensor) -> torch.Tensor:
        dark = pixels.mean(dim=(1, 2, 3)) < 0.45
        return forward(self, pixels).masked_fill(dark[:, None], float("nan"))

    monkeypatch.setattr(Teacher, "forward", sometimes_nothing)
    images = generated(raw | {"max_failure_rate": 1.0}, tmp_path / "images")
    codes = generated(raw | {"max_failure_rate": 1.0}, tmp_path / "codes", image="none")
    reasons = [row["reason"] for path in codes.glob("index/*") for row in pq.read_table(path).to_pylist()]
    assert 3 < reasons.count("non-finite model output") < 40
    expand(codes, tmp_path / "expanded")
    same_images_and_rows(images, tmp_path / "expanded")


def test_an_expanded_set_is_whole_and_says_what_it_came_from(codes_set: Path, expanded_set: Path) -> None:
    assert found(expanded_set) == []
    manifest, origin = read_manifest(open_folder(expanded_set)), read_manifest(open_folder(codes_set))
    expanded = manifest.fingerprinted["expanded"]
    assert expanded["origin"] == origin.fingerprint
    assert (expanded["device"], expanded["precision"], expanded["batch_size"]) == ("cpu", "float32", 8)
    assert (manifest.state, manifest.clean_sha256, manifest.shards) == ("finished", origin.clean_sha256, 3)
    assert manifest.fingerprinted["weights"] == origin.fingerprinted["weights"]
    assert not (expanded_set / "quantizer").exists()
    key = pq.read_table(expanded_set / "index/tiny-00001.parquet")["key"][0].as_py()
    (made_again,) = replay(str(expanded_set), [("tiny-00001", key)])
    assert (made_again.image_equal, made_again.codes_equal_share, made_again.logits_max_difference) == (True, 1.0, 0.0)


def test_the_card_says_what_was_expanded_how_and_how_near_it_is(
    raw: RawRecipe, codes_set: Path, expanded_set: Path, copied: Path, tmp_path: Path
) -> None:
    card, origin = (expanded_set / "README.md").read_text(), read_manifest(open_folder(codes_set))
    assert f"whose fingerprint is `{origin.fingerprint}`" in card
    assert f"sha256 of its weights `{origin.fingerprinted['weights']['quantizer']}`" in card
    assert "it ran on cpu in float32, 8 views at a time, with 1 threads" in card
    assert "48 of the 48 images here have these very pixels. The others may differ by 1/255" in card
    assert "dad expand` decoded" not in (codes_set / "README.md").read_text()
    change_index(copied / "index/tiny-00002.parquet", "image_sha256", lambda cells: [c and bytes(32) for c in cells])
    expand(copied, tmp_path / "out")
    differing = sum(row["status"] == "ok" for row in pq.read_table(copied / "index/tiny-00002.parquet").to_pylist())
    assert f"{48 - differing} of the 48 images here have these very pixels" in (tmp_path / "out/README.md").read_text()
    halved = raw | {"compute": raw["compute"] | {"precision": "bfloat16"}}
    expand(generated(halved, tmp_path / "halved", image="none"), tmp_path / "bfloat16")
    assert "decoded in bfloat16, for which no bound is promised" in (tmp_path / "bfloat16/README.md").read_text()


def test_a_student_learns_the_same_from_either(images_set: Path, expanded_set: Path, tmp_path: Path) -> None:
    for name, shards in (("images", images_set), ("expanded", expanded_set)):
        finished, screen = train(training_recipe(shards), tmp_path / name, "epochs=1")
        assert finished, screen
    one, other = (checkpoint(tmp_path / name)["state_dict"] for name in ("images", "expanded"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_command_and_its_closing_table(codes_set: Path, expanded_set: Path, tmp_path: Path) -> None:
    command = [DAD, "expand", str(codes_set), "--out", str(tmp_path / "out"), "--device", "cpu", "--check", "3"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "3 units, decoded on cpu in float32" in result.stdout
    assert "images with the origin's very pixels" in result.stdout
    assert "48 of 48" in result.stdout
    assert "3 views against the decoder in float64: at most" in result.stdout
    assert dataset_bytes(tmp_path / "out") == dataset_bytes(expanded_set)


def test_other_batches_give_pixels_within_one_step(codes_set: Path, expanded_set: Path, tmp_path: Path) -> None:
    screen = expand(codes_set, tmp_path / "out", batch_size=1, check=2)
    assert "2 views against the decoder in float64" in screen
    for path in expanded_set.glob("index/*.parquet"):
        rows, others = (pq.read_table(s / "index" / path.name).to_pylist() for s in (expanded_set, tmp_path / "out"))
        for row, other in zip(rows, others, strict=True):
            if row["status"] == "ok":
                canvases = []
                for folder, one in ((expanded_set, row), (tmp_path / "out", other)):
                    with open_shard(open_folder(folder), path.stem) as shard:
                        canvases.append(shard.canvas(one).astype(int))
                assert np.abs(canvases[0] - canvases[1]).max() <= 1


def stop_at_unit(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As Ctrl-C while that unit's images are being encoded."""
    begun: list[str] = []

    def interrupted(unit: ShardSummary, expansion: Expansion, on_views: Callable[[int], None]) -> UnitReport:
        begun.append(unit.unit)
        if len(begun) == number:
            monkeypatch.setattr(expanded_unit, "members_of", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        return expand_unit(unit, expansion, on_views)

    monkeypatch.setattr(expansion_run, "expand_unit", interrupted)


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    codes_set: Path, expanded_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at_unit(patch, 2)
        screen = io.StringIO()
        with pytest.raises(KeyboardInterrupt):
            expand_dataset(str(codes_set), str(tmp_path), console=Console(file=screen, width=200))
    assert "interrupted: what is finished is kept; run the same command again" in screen.getvalue()
    assert [path.name for path in tmp_path.glob("index/*")] == ["tiny-00000.parquet"]
    assert [path.name for path in tmp_path.glob("shards/*")] == ["tiny-00000.tar"]
    assert read_manifest(open_folder(tmp_path)).state == "running"
    assert "1 units are finished already" in expand(codes_set, tmp_path)
    assert dataset_bytes(tmp_path) == dataset_bytes(expanded_set)
    assert "3 units are finished already" in expand(codes_set, tmp_path)
    assert dataset_bytes(tmp_path) == dataset_bytes(expanded_set)
    for number in (0, 2):
        (tmp_path / f"shards/tiny-0000{number}.tar").unlink()
    assert "shards/tiny-00000.tar and 1 more are gone: their units are made again" in expand(codes_set, tmp_path)
    assert dataset_bytes(tmp_path) == dataset_bytes(expanded_set)


def test_another_expansion_in_the_folder_is_refused(raw: RawRecipe, codes_set: Path, tmp_path: Path) -> None:
    expand(codes_set, tmp_path / "out")
    with pytest.raises(UserError, match=r'begun with other settings \(.*recipe\.store\.image: "webp" there, "png" now'):
        expand(codes_set, tmp_path / "out", image_format="png")
    with pytest.raises(UserError, match=r"expanded\.batch_size: 8 there, 4 now"):
        expand(codes_set, tmp_path / "out", batch_size=4)
    other = generated(raw | {"seed": 1}, tmp_path / "other", image="none")
    with pytest.raises(UserError, match=r"expanded\.origin: "):
        expand(other, tmp_path / "out")
    (tmp_path / "out/manifest.json").unlink()
    with pytest.raises(UserError, match=r"index/tiny-00000\.parquet was made by another run"):
        expand(other, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 100_000}, "batch_size = 100000: expected auto or a number from 1 to 65536"),
        pytest.param(
            {"device": "cuda"},
            "--device = cuda: no GPU was found",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_what_this_machine_cannot_do_is_one_sentence(
    codes_set: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        expand(codes_set, tmp_path / "out", **options)
    assert not (tmp_path / "out/manifest.json").exists()


def test_two_expansions_at_once_are_refused(codes_set: Path, tmp_path: Path) -> None:
    with only_writer(open_folder(tmp_path)), pytest.raises(UserError, match="is being written by another run"):
        expand(codes_set, tmp_path)


def test_what_cannot_be_expanded_is_refused(images_set: Path, copied: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds images \(webp\) already"):
        expand(images_set, tmp_path / "out")
    with pytest.raises(UserError, match="is inside the source"):
        expand(copied, copied / "out")
    folder = open_folder(copied)
    write_manifest(folder, read_manifest(folder).model_copy(update={"state": "running"}))
    with pytest.raises(UserError, match="is not finished: run `dad generate` again"):
        expand(copied, tmp_path / "out")
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        expand(tmp_path, tmp_path.with_name("elsewhere"))


def test_a_damaged_or_missing_quantizer_is_refused_unless_another_copy_is_named(
    copied: Path, quantizer_folder: Path, tmp_path: Path
) -> None:
    path = copied / "quantizer/quantizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"quantizer\.safetensors: its bytes are not those that were written"):
        expand(copied, tmp_path / "out")
    path.unlink()
    with pytest.raises(UserError, match=r"quantizer\.safetensors: is missing"):
        expand(copied, tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()
    assert "48 of 48" in expand(copied, tmp_path / "out", quantizer=quantizer_folder)


def test_another_quantizer_is_refused(codes_set: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = write_quantizer(tmp_path / "other")
    weights = load_file(other / "quantizer.safetensors")
    save_file({name: value + 1e-3 for name, value in weights.items()}, other / "quantizer.safetensors")
    with pytest.raises(UserError, match=r"is not the quantizer that the codes of .* were made with"):
        expand(codes_set, tmp_path / "out", quantizer=other)


@pytest.mark.parametrize("codes", [[64] * 64, [0] * 63])
def test_codes_that_the_quantizer_cannot_decode_are_refused(copied: Path, tmp_path: Path, codes: list[int]) -> None:
    change_index(copied / "index/tiny-00001.parquet", "codes", lambda cells: [codes, *cells[1:]])
    with pytest.raises(UserError, match=r"the index of tiny-00001 holds codes that are not 8 x 8 numbers below 64"):
        expand(copied, tmp_path / "out")
    assert not list((tmp_path / "out").rglob(".tmp-*"))


def test_an_index_of_another_run_is_refused(copied: Path, tmp_path: Path) -> None:
    path = copied / "index/tiny-00001.parquet"
    table = pq.read_table(path)
    summary = json.loads(table.schema.metadata[b"dad"]) | {"fingerprint": "0" * 64}
    pq.write_table(table.replace_schema_metadata({b"dad": json.dumps(summary)}), path)
    with pytest.raises(UserError, match="the index of tiny-00001 is not of this set"):
        expand(copied, tmp_path / "out")


def test_views_with_other_pixels_than_the_origin_are_counted(copied: Path, tmp_path: Path) -> None:
    """As a set that was made on other hardware would have them."""
    change_index(copied / "index/tiny-00001.parquet", "image_sha256", lambda cells: [c and bytes(32) for c in cells])
    screen = expand(copied, tmp_path / "out")
    differing = sum(row["status"] == "ok" for row in pq.read_table(copied / "index/tiny-00001.parquet").to_pylist())
    assert f"{48 - differing} of 48" in screen
    assert "--check 8" in screen


def test_a_decoder_that_is_wrong_is_found(codes_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Quantizer.decode

    def brighter(self: Quantizer, codes: torch.Tensor) -> torch.Tensor:
        pixels = decode(self, codes)
        return (pixels + 3 / 255).clamp(0, 1) if pixels.dtype == torch.float32 else pixels

    monkeypatch.setattr(Quantizer, "decode", brighter)
    with pytest.raises(UserError, match=r"pixels are 3/255 from what the codes stand for; at most 1/255 is expected"):
        expand(codes_set, tmp_path, check=2)


def test_too_large_a_batch_names_a_smaller_one(
    codes_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> npt.NDArray[np.uint8]:
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(Quantizer, "decode", too_large)
    with pytest.raises(UserError, match=r"a batch of 8 views does not fit .* try --batch-size 4"):
        expand(codes_set, tmp_path)
