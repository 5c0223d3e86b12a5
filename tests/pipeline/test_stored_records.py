"""What a shard holds, recomputed from its parts; and every mode of storing it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from stored_records import canvas_of, npy, read_all, rows_of
from tiny_run import NUM_CLASSES, NUM_IMAGES, RawRecipe, run_recipe, tiny_recipe

from dad_datasets.errors import UserError
from dad_datasets.record import pixels_sha256
from dad_datasets.shard_reader import ShardReader
from dad_pipeline.adversarial_views import to_canvases, to_pixels
from dad_pipeline.checkpoint_file import weights_sha256
from dad_pipeline.models import load_models
from dad_pipeline.quantizer_checkpoint import QuantizerSettings, load_quantizer
from dad_pipeline.recipe import Recipe

CPU = torch.device("cpu")
CLASSES = [f"class{label}" for label in range(NUM_CLASSES)]


@pytest.fixture(scope="module")
def stored(images: Path, quantizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RawRecipe]:
    raw = tiny_recipe(images, quantizer_folder)
    raw["store"] = {"clean": True}
    out = tmp_path_factory.mktemp("stored") / "out"
    run_recipe(raw, out)
    return out, raw


def test_every_input_view_has_its_row(stored: tuple[Path, RawRecipe]) -> None:
    rows = rows_of(stored[0])
    assert len(rows) == 2 * NUM_IMAGES
    assert {row["status"] for row in rows} == {"ok"}
    assert len({row["key"] for row in rows}) == len(rows)
    assert all(row["key"].endswith(f"-v{row['view']}") for row in rows)
    assert {(row["source_key"].split("/")[0], row["label"]) for row in rows} == {
        (f"class{label}", label) for label in range(NUM_CLASSES)
    }


def test_the_canvas_is_the_view_replayed_from_the_source_file(stored: tuple[Path, RawRecipe]) -> None:
    out, raw = stored
    for row, clean in zip(rows_of(out), read_all(out, "clean"), strict=True):
        image = Image.open(Path(raw["source"]["path"]) / row["source_key"]).convert("RGB")
        box = (row["box_left"], row["box_top"], row["box_right"], row["box_bottom"])
        expected = image.crop(box).resize((16, 16), Image.Resampling.BICUBIC)
        if row["flip"]:
            expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        np.testing.assert_array_equal(canvas_of(clean), np.asarray(expected))
        assert pixels_sha256(canvas_of(clean)) == row["canvas_sha256"]


def test_the_image_is_the_decoded_codes(stored: tuple[Path, RawRecipe]) -> None:
    out, raw = stored
    models = load_models(Recipe.model_validate(raw), CLASSES)
    codes = np.stack([npy(content) for content in read_all(out, "codes")])
    assert codes.dtype == np.uint16
    with torch.no_grad():
        decoded = to_canvases(models.quantizer.decode(torch.from_numpy(codes.astype(np.int64))))
    for image, row, canvas in zip(read_all(out, "image"), rows_of(out), decoded.transpose(0, 2, 3, 1), strict=True):
        # The batch is another one here, which may move a pixel that lies on a rounding edge.
        assert np.abs(canvas_of(image).astype(int) - canvas).max() <= 1
        assert pixels_sha256(canvas_of(image)) == row["image_sha256"]


def test_the_logits_are_those_of_the_pixels_that_a_reader_gets(stored: tuple[Path, RawRecipe]) -> None:
    out, raw = stored
    models = load_models(Recipe.model_validate(raw), CLASSES)
    for column, place in (("clean", 0), ("image", 1)):
        canvases = np.stack([canvas_of(content) for content in read_all(out, column)])
        with torch.no_grad():
            logits = models.teacher(to_pixels(canvases.transpose(0, 3, 1, 2), CPU)).numpy()
        kept = np.stack([npy(content)[place] for content in read_all(out, "teacher")])
        assert kept.dtype == np.float16
        assert np.all(kept.max(axis=1) == 0)
        np.testing.assert_allclose(kept, logits - logits.max(axis=1, keepdims=True), atol=2e-4)
        top1 = [row["teacher_clean_top1" if place == 0 else "teacher_adv_top1"] for row in rows_of(out)]
        assert top1 == logits.argmax(axis=1).tolist()


def test_the_json_member_says_what_the_index_says(stored: tuple[Path, RawRecipe]) -> None:
    for row, content in zip(rows_of(stored[0]), read_all(stored[0], "json"), strict=True):
        document = json.loads(content, parse_constant=lambda name: pytest.fail(f"{name} stands in a json member"))
        assert document["source_key"] == row["source_key"]
        assert document["view"]["index"] == row["view"]
        assert document["image_sha256"] == row["image_sha256"].hex()
        for name, value in document["measurements"].items():
            assert value == pytest.approx(row[name], rel=1e-6)


def test_the_attack_stays_in_its_budget_and_moves_codes(stored: tuple[Path, RawRecipe]) -> None:
    rows = rows_of(stored[0])
    assert all(row["l2"] <= 2.0 * (1 + 1e-5) for row in rows)
    assert max(row["codes_changed_by_attack"] for row in rows) > 0.05


def test_controls_without_steps_add_nothing_to_the_round_trips(recipe: RawRecipe, tmp_path: Path) -> None:
    images = {}
    for preset in ("reconstruction", "vqgan"):
        recipe["attack"] = {"preset": preset}
        run_recipe(recipe, tmp_path / preset)
        rows = rows_of(tmp_path / preset)
        assert all(row["l2"] == 0 for row in rows)
        images[preset] = [row["image_sha256"] for row in rows]
        if preset == "vqgan":
            assert all(row["codes_changed_by_attack"] == 0 for row in rows)
        else:  # Q(x0) itself, which is what psnr_vqgan_db measures
            assert all(row["psnr_db"] == row["psnr_vqgan_db"] for row in rows)
    assert images["reconstruction"] != images["vqgan"]


def test_top_k_keeps_the_largest_and_the_mass_of_the_rest(recipe: RawRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path / "full")
    recipe["store"] = {"logits": {"top_k": 2, "temperatures": [1.0, 4.0]}}
    run_recipe(recipe, tmp_path / "top")
    full = np.stack([npy(c) for c in read_all(tmp_path / "full", "teacher")]).astype(np.float64)
    values, ids, rest = (
        np.stack([npy(c) for c in read_all(tmp_path / "top", name)])
        for name in ("teacher", "teacher_ids", "teacher_rest")
    )
    assert [str(array.dtype) for array in (values, ids, rest)] == ["float16", "uint16", "float32"]
    np.testing.assert_array_equal(np.take_along_axis(full, ids.astype(int), axis=2), values)
    for place, temperature in enumerate((1.0, 4.0)):
        probabilities = np.exp(full / temperature)
        probabilities /= probabilities.sum(axis=2, keepdims=True)
        left_out = 1 - np.take_along_axis(probabilities, ids.astype(int), axis=2).sum(axis=2)
        np.testing.assert_allclose(np.exp(rest[:, :, place]), left_out, rtol=5e-3)


def test_codes_only_sets_have_no_tar_and_hold_the_same_samples(recipe: RawRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path / "images")
    recipe["store"] = {"image": "none"}
    run_recipe(recipe, tmp_path / "codes")
    assert not (tmp_path / "codes/shards").exists()
    shipped = load_quantizer(QuantizerSettings(checkpoint=tmp_path / "codes/quantizer"), device=CPU)
    original = load_quantizer(QuantizerSettings(**recipe["quantizer"]), device=CPU)
    assert weights_sha256(shipped) == weights_sha256(original)
    rows = rows_of(tmp_path / "codes")
    assert [row["image_sha256"] for row in rows] == [row["image_sha256"] for row in rows_of(tmp_path / "images")]
    for row, codes, teacher in zip(
        rows, read_all(tmp_path / "images", "codes"), read_all(tmp_path / "images", "teacher"), strict=True
    ):
        assert row["codes"] == npy(codes).ravel().tolist()
        assert row["teacher"] == npy(teacher).ravel().tolist()


def test_clean_only_views_have_logits_in_the_index_and_no_member(recipe: RawRecipe, tmp_path: Path) -> None:
    recipe["views"]["draw"] = [{"kind": "centre"}, {"kind": "pad_crop", "attack": False, "count": 2}]
    run_recipe(recipe, tmp_path)
    rows = rows_of(tmp_path)
    clean_only = [row for row in rows if row["status"] == "clean_only"]
    assert len(clean_only) == 2 * NUM_IMAGES
    assert {row["view"] for row in clean_only} == {1, 2}
    for row in clean_only:
        assert row["image_offset"] is None
        assert len(row["teacher"]) == NUM_CLASSES
        assert int(np.argmax(row["teacher"])) == row["teacher_clean_top1"]
    assert all(row["teacher"] is None for row in rows if row["status"] == "ok")


@pytest.mark.parametrize("image_format", ["png", "jpg"])
def test_other_formats_are_scored_as_they_are_read_back(recipe: RawRecipe, tmp_path: Path, image_format: str) -> None:
    recipe["store"] = {"image": image_format}
    run_recipe(recipe, tmp_path)
    models = load_models(Recipe.model_validate(recipe), CLASSES)
    canvases = np.stack([canvas_of(content) for content in read_all(tmp_path, "image")])
    with torch.no_grad():
        logits = models.teacher(to_pixels(canvases.transpose(0, 3, 1, 2), CPU)).numpy()
    kept = np.stack([npy(content)[1] for content in read_all(tmp_path, "teacher")])
    np.testing.assert_allclose(kept, logits - logits.max(axis=1, keepdims=True), atol=2e-4)
    assert [pixels_sha256(canvas) for canvas in canvases] == [row["image_sha256"] for row in rows_of(tmp_path)]


def test_another_model_may_be_attacked_than_the_one_that_labels(recipe: RawRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path / "same")
    recipe["attack"]["model"] = recipe["teacher"] | {"seed": 1}
    run_recipe(recipe, tmp_path / "other")
    same, other = rows_of(tmp_path / "same"), rows_of(tmp_path / "other")
    assert [row["teacher_clean_top1"] for row in same] == [row["teacher_clean_top1"] for row in other]
    assert [row["image_sha256"] for row in same] != [row["image_sha256"] for row in other]


def test_the_index_has_the_columns_of_the_contract(stored: tuple[Path, RawRecipe]) -> None:
    schema = pq.read_schema(next((stored[0] / "index").glob("*.parquet")))
    expected = {
        **dict.fromkeys(("key", "source_key", "source_shard", "status", "reason"), pa.string()),
        "view": pa.int16(),
        "label": pa.int32(),
        **dict.fromkeys(("source_sha256", "canvas_sha256", "image_sha256"), pa.binary(32)),
        **dict.fromkeys(("teacher_clean_top1", "teacher_adv_top1"), pa.int32()),
        **dict.fromkeys(("teacher_clean_confidence", "teacher_adv_confidence"), pa.float32()),
        **dict.fromkeys(("objective_before", "objective_after", "l2", "linf"), pa.float32()),
        **dict.fromkeys(("psnr_db", "psnr_vqgan_db", "codes_changed_by_attack"), pa.float32()),
        **dict.fromkeys(("image_offset", "image_length", "teacher_offset", "codes_length"), pa.int64()),
    }
    assert {name: schema.field(name).type for name in expected} == expected


def test_a_truncated_shard_is_named(stored: tuple[Path, RawRecipe]) -> None:
    row = rows_of(stored[0])[0]
    content = (stored[0] / "shards" / f"{row['unit']}.tar").read_bytes()
    shard = ShardReader(io.BytesIO(content[: row["image_offset"] + 10]), "a.tar")
    with pytest.raises(UserError, match=r"a\.tar: ends before the image of"):
        shard.member(row, "image")
