"""`dad evaluate` as people run it: real checkpoints, real files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import typer
import yaml
from coded_images import write_folders
from PIL import Image
from typer.testing import CliRunner

import dad_trainer.students  # noqa: F401 (registers the networks that timm builds here)
from dad_datasets.errors import UserError
from dad_trainer.commands.evaluate import evaluate

NUM_CLASSES = 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(
        tmp_path_factory.mktemp("images"), {name: i for i, name in enumerate(("ant", "bee", "cat"))}, images=4
    )


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two students with random weights, as timm saves them."""
    root = tmp_path_factory.mktemp("runs")
    paths = []
    for seed, name in enumerate(("ce", "dad")):
        torch.manual_seed(seed)
        weights = timm.create_model("cifar_resnet20", num_classes=NUM_CLASSES).state_dict()
        (root / name).mkdir()
        torch.save({"arch": "cifar_resnet20", "state_dict": weights}, root / name / "best.pt")
        paths.append(root / name / "best.pt")
    return paths


def dad_evaluate(*arguments: object) -> str:
    """What it prints. Raises what it raises."""
    app = typer.Typer()
    app.command()(evaluate)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})
    if result.exception is not None:
        raise result.exception
    return result.output


def write_recipe(path: Path, images: Path, **run: Any) -> Path:
    classes = {"ant": 0, "bee": 1}
    benchmarks = [
        {"name": "clean", "kind": "clean", "path": str(images)},
        {
            "name": "C",
            "kind": "corrupted",
            "path": str(images),
            "corruptions": ["brightness", "contrast"],
            "severities": [1, 5],
            "reference_errors": {"brightness": 0.5, "contrast": 0.8},
        },
        {"name": "two", "kind": "folder", "path": str(images), "classes": classes, "ignore_unmapped": True},
    ]
    path.write_text(yaml.safe_dump({"benchmarks": benchmarks, "run": run}))
    return path


def test_a_recipe_gives_json_table_and_chart(images: Path, checkpoints: list[Path], tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path / "recipe.yaml", images, batch_size=5), tmp_path / "out"
    printed = dad_evaluate(*checkpoints, "--recipe", recipe, "--out", out, "--set", "run.threads=1")
    content = json.loads((out / "results.json").read_text())
    assert content["recipe"]["run"]["batch_size"] == 5
    assert content["recipe"]["benchmarks"][1]["strengths"] == "auto"
    assert content["libraries"]["torch"] == torch.__version__.partition("+")[0]
    assert [student["name"] for student in content["students"]] == ["ce/best", "dad/best"]
    for student, path in zip(content["students"], checkpoints, strict=True):
        assert student["checkpoint"] == str(path)
        assert student["checkpoint_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (student["architecture"], student["image_size"]) == ("cifar_resnet20", 32)
        assert [row["num_images"] for row in student["results"]] == [12] * 5 + [8]
        clean, corrupted, two = student["summaries"]
        shares = {row["corruption"]: row for row in student["results"] if row["severity"] == 5}
        assert set(corrupted["corruptions"]) == set(shares) == {"brightness", "contrast"}
        errors = {name: 1 - share for name, share in corrupted["corruptions"].items()}
        assert corrupted["mce"] == pytest.approx((errors["brightness"] / 0.5 + errors["contrast"] / 0.8) / 2)
        assert clean["mce"] is two["mce"] is None
        assert f"| {student['name']} | {100 * clean['accuracy']:.1f} |" in (out / "results.md").read_text()
        assert student["name"] in printed
    with Image.open(out / "results.png") as chart:
        assert chart.format == "PNG"
    assert str(out / "results.json") in printed


def test_it_resumes_and_takes_more_students(
    images: Path, checkpoints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = write_recipe(tmp_path / "recipe.yaml", images), tmp_path / "out"
    dad_evaluate(checkpoints[0], "--recipe", recipe, "--out", out)
    lines = (out / "rows.jsonl").read_text().splitlines()
    assert len(lines) == 6
    dad_evaluate(*checkpoints, "--recipe", recipe, "--out", out)
    grown = (out / "rows.jsonl").read_text().splitlines()
    assert (len(grown), grown[:6]) == (12, lines)
    content = (out / "results.json").read_bytes()

    def never(*arguments: object) -> None:
        raise AssertionError("nothing was left to do")

    monkeypatch.setattr("dad_trainer.evaluation.inference.Inference.logits", never)
    dad_evaluate(*checkpoints, "--recipe", recipe, "--out", out)
    assert (out / "results.json").read_bytes() == content


def test_without_a_recipe(images: Path, checkpoints: list[Path], tmp_path: Path) -> None:
    options = ["--set", "run.max_bad_images=0.5", "--architecture", "cifar_resnet20", "--image-size", 16]
    dad_evaluate(checkpoints[0], "--clean", images, "--corrupted", images, "--out", tmp_path / "out", *options)
    (student,) = json.loads((tmp_path / "out" / "results.json").read_text())["students"]
    assert student["image_size"] == 16
    assert [summary["benchmark"] for summary in student["summaries"]] == ["clean", "corrupted"]
    assert len(student["results"]) == 76


def test_bad_images_are_told(images: Path, checkpoints: list[Path], tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "images", {"ant": 0, "bee": 1, "cat": 2})
    (folder / "ant" / "broken.png").write_bytes(b"nothing")
    arguments = [checkpoints[0], "--clean", folder, "--out", tmp_path / "out"]
    printed = dad_evaluate(*arguments, "--set", "run.max_bad_images=0.5")
    assert "benchmark clean: 1 of 4 images could not be used, such as ant/broken.png: not an image" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to evaluate on: give --recipe, --clean or --corrupted"),
        (["--clean", "x", "--recipe", "y"], "--recipe: cannot be given with --clean"),
        (["--clean", "{images}", "--set", "run.batchsize=1"], "run.batchsize: unknown field; did you mean batch_size"),
        (["--clean", "{images}", "--architecture", "resnet"], "timm has no such model"),
        (["--clean", "{images}/ant"], "benchmark clean|source .*ant"),
    ],
)
def test_mistakes_are_one_sentence(
    images: Path, checkpoints: list[Path], tmp_path: Path, options: list[str], message: str
) -> None:
    given = [option.format(images=images) for option in options]
    with pytest.raises(UserError, match=message):
        dad_evaluate(checkpoints[0], "--out", tmp_path / "out", *given)
    assert not (tmp_path / "out" / "results.json").exists()


def test_results_are_not_written_over_or_among_other_things(
    images: Path, checkpoints: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "results.json").write_text("mine")
    with pytest.raises(UserError, match=r"results\.json is there, and no evaluation made it: choose another --out"):
        dad_evaluate(checkpoints[0], "--clean", images, "--out", tmp_path)
    assert (tmp_path / "results.json").read_text() == "mine"
    with pytest.raises(UserError, match=r"is inside the source .*: choose one outside"):
        dad_evaluate(checkpoints[0], "--clean", images, "--out", images / "results")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"set holds a dataset: choose another --out"):
        dad_evaluate(checkpoints[0], "--clean", images, "--out", tmp_path / "set")


def test_two_benchmarks_of_one_name_are_refused(images: Path, checkpoints: list[Path], tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", images)
    raw = yaml.safe_load(recipe.read_text())
    raw["benchmarks"][1]["name"] = "clean"
    recipe.write_text(yaml.safe_dump(raw))
    with pytest.raises(UserError, match="two benchmarks are named clean"):
        dad_evaluate(checkpoints[0], "--recipe", recipe, "--out", tmp_path / "out")
