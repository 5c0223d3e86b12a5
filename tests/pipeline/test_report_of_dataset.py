"""`dad report` on what `dad generate` really made, and the report that a finished dataset holds."""

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
import pytest
import typer
from html_page import captions, cells, read_page, section, text_of
from PIL import Image
from tiny_run import NUM_IMAGES, RawRecipe, run_recipe, tiny_recipe
from typer.testing import CliRunner

from dad_datasets.commands.report import report as report_command
from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder, open_folder
from dad_datasets.index import read_index
from dad_datasets.reporting.opening import report_page
from dad_datasets.reporting.picture import MOST_BYTES, SHOWN_SIDE, picture_bytes
from dad_datasets.summary import finished_units

NAMES = ['<b>cat</b> & "dog"', "owl' onload='x", "🦉 eule"]
DAD = str(Path(sys.executable).with_name("dad"))
VIEWS = 2 * NUM_IMAGES


@pytest.fixture(scope="module")
def dataset(images: Path, quantizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images and one that cannot be decoded, whose classes have names that are no good HTML."""
    base = tmp_path_factory.mktemp("report")
    shutil.copytree(images, base / "images")
    (base / "images" / "class1" / "broken.png").write_bytes(b"<img src=x>")
    recipe = tiny_recipe(base / "images", quantizer_folder)
    recipe |= {"class_names": NAMES, "max_failure_rate": 0.5, "card": {"pretty_name": "Tiny <i>animals</i>"}}
    complete, screen = run_recipe(recipe, base / "out")
    assert complete, screen
    return base / "out"


def rows_of(dataset: Path) -> list[dict[str, Any]]:
    folder = open_folder(dataset)
    return [row for unit in finished_units(folder) for row in read_index(folder, unit).to_pylist()]


def report(dataset: Path, out: Path, *, name: str = "set") -> Path:
    out.write_bytes(report_page(LocalFolder(dataset), name=name, baseline=None))
    return out


def test_the_command_writes_a_page_beside_the_dataset(dataset: Path) -> None:
    before = sorted(dataset.rglob("*"))
    done = subprocess.run([DAD, "report", str(dataset)], capture_output=True, text=True, check=True)
    target = dataset.with_name("out-report.html")
    assert str(target) in done.stdout
    root = read_page(target)
    assert text_of(next(root.iter("h1"))) == "Tiny <i>animals</i>"
    assert sorted(dataset.rglob("*")) == before


def test_figures_are_those_of_the_indexes(dataset: Path, tmp_path: Path) -> None:
    root = read_page(report(dataset, tmp_path / "a.html"))
    stored = [row for row in rows_of(dataset) if row["status"] == "ok"]
    assert len(stored) == VIEWS
    figures = {row[0]: row[1:] for row in cells(section(root, "Figures"))[1:]}
    right = sum(row["teacher_clean_top1"] == row["label"] for row in stored)
    assert figures["teacher accuracy, clean"] == [f"{right / VIEWS:.2%}", str(VIEWS)]
    psnr = np.mean([row["psnr_db"] for row in stored], dtype=np.float64)
    assert figures["PSNR, adversarial"] == [f"{psnr:.4g} dB", str(VIEWS)]
    classes = {row[0]: row[1:4] for row in cells(section(root, "Accuracy by class"))[1:]}
    assert classes.keys() == set(NAMES)
    for label, name in enumerate(NAMES):
        own = [row for row in stored if row["label"] == label]
        clean = sum(row["teacher_clean_top1"] == label for row in own) / len(own)
        adversarial = sum(row["teacher_adv_top1"] == label for row in own) / len(own)
        assert classes[name] == [str(len(own)), f"{100 * clean:.1f}", f"{100 * adversarial:.1f}"]
    failures = section(root, "Failures")
    assert "2 of 50 views failed (4.00%)" in text_of(failures)
    assert cells(failures)[1][1] == "2"
    assert captions(root) == [
        "Codes changed by the attack",
        "Distance from the clean view",
        "The teacher's confidence",
        "Time by stage",
    ]


def test_pictures_are_those_that_changed_most_and_least(dataset: Path, tmp_path: Path) -> None:
    pictures = section(read_page(report(dataset, tmp_path / "a.html")), "Pictures")
    headings = [text_of(heading) for heading in pictures.iter("h3")]
    groups = [div for div in pictures if div.get("class") == "pictures"]
    shown = {heading: [text_of(figure) for figure in group] for heading, group in zip(headings, groups, strict=True)}
    stored = sorted(
        (row for row in rows_of(dataset) if row["status"] == "ok"), key=lambda row: -row["codes_changed_by_attack"]
    )
    most = shown["Most codes changed by the attack"]
    assert len(most) == 4
    for text, row in zip(most, stored, strict=False):
        assert f"{row['codes_changed_by_attack']:.1%} of the codes changed" in text
        assert NAMES[row["label"]] in text
    lowest = min(row["psnr_db"] for row in stored)
    assert f"{lowest:.1f} dB" in shown["Farthest from the clean view (lowest PSNR)"][0]
    highest = max(row["psnr_db"] for row in stored)
    assert f"{highest:.1f} dB" in shown["Nearest to the clean view (highest PSNR)"][0]
    assert len(list(pictures.iter("img"))) == 3 * sum(map(len, shown.values())) == 48


def test_the_report_in_the_dataset_has_no_times_and_no_place(dataset: Path, tmp_path: Path) -> None:
    root = read_page(dataset / "report.html")
    titles = [text_of(each[0]) for each in root.iter("section")]
    assert titles == ["What it is", "Figures", "Distributions", "Pictures", "Accuracy by class", "Failures"]
    assert str(dataset) not in (dataset / "report.html").read_text()
    moved = tmp_path / "elsewhere"
    shutil.copytree(dataset, moved)
    (moved / "report.html").unlink()
    manifest = json.loads((moved / "manifest.json").read_text())
    (moved / "manifest.json").write_text(json.dumps(manifest | {"state": "running"}))
    complete, screen = run_recipe(manifest["recipe"], moved)
    assert complete, screen
    assert (moved / "report.html").read_bytes() == (dataset / "report.html").read_bytes()


def test_times_are_added_up_over_the_runs(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    shutil.rmtree(copy / "runs")
    unit = {"unit": "a", "rows": 1}
    logs = {
        "1": {
            "wall_s": 50,
            "stage_seconds": {"decode": 10, "models": 30},
            "units": [{"unit": "a", "reason": "<died>"}],
        },
        "2": {
            "wall_s": 80,
            "stage_seconds": {"decode": 20, "models": 60},
            "units": [unit, {"unit": "b", "reason": "&"}],
        },
    }
    for name, log in logs.items():
        (copy / "runs" / name).mkdir(parents=True)
        (copy / "runs" / name / "run.json").write_text(json.dumps({"runner": "ray", "cores": 8, **log}))
    (copy / "runs" / "unfinished").mkdir()
    root = read_page(report(copy, tmp_path / "a.html"))
    time = text_of(section(root, "Time"))
    assert "30.0 s, 25%" in time
    assert "1 min 30 s, 75%" in time
    assert "2 min 10 s" in time
    assert "ray runner, 8 cores (runs: 2)" in time
    assert cells(list(section(root, "Failures").iter("table"))[1]) == [["unit", "reason"], ["b", "&"]]
    (copy / "runs" / "2" / "run.json").write_text("{}")
    assert "Time" in [text_of(each[0]) for each in read_page(report(copy, tmp_path / "a.html")).iter("section")]
    (copy / "runs" / "2" / "run.json").write_text('{"stage_seconds": 3}')
    with pytest.raises(UserError, match=r"runs/2/run\.json: is damaged"):
        report(copy, tmp_path / "a.html")


def test_a_source_that_is_gone_costs_its_pictures_alone(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["recipe"]["source"]["path"] = str(tmp_path / "gone")
    (copy / "manifest.json").write_text(json.dumps(manifest))
    pictures = section(read_page(report(copy, tmp_path / "a.html")), "Pictures")
    assert "Some pictures are missing:" in text_of(pictures)
    assert "gone" in text_of(pictures)
    alternatives = {str(img.get("alt")).rpartition(", ")[2] for img in pictures.iter("img")}
    assert alternatives == {"adversarial"}
    for tar in (copy / "shards").iterdir():
        tar.write_bytes(b"")
    pictures = section(read_page(report(copy, tmp_path / "a.html")), "Pictures")
    assert "Some pictures are missing:" in text_of(pictures)
    assert not list(pictures.iter("img"))


def test_a_dataset_of_codes_alone(recipe: RawRecipe, tmp_path: Path) -> None:
    complete, _ = run_recipe({**recipe, "store": {"image": "none"}}, tmp_path / "out")
    assert complete
    root = read_page(tmp_path / "out" / "report.html")
    assert "dad expand makes its images" in text_of(section(root, "Pictures"))
    assert not list(root.iter("img"))


def test_a_running_dataset_says_so(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"state": "running"}))
    for path in (copy / "index").iterdir():
        path.unlink()
    root = read_page(report(copy, tmp_path / "a.html"))
    assert "is not finished" in text_of(root)
    assert "None of the 0 views failed" in text_of(root)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.integers(0, 256, (512, 512, 3), dtype=np.uint8),
        lambda rng: rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
        lambda rng: np.zeros((3000, 20, 3), dtype=np.uint8),
    ],
)
def test_a_picture_of_noise_is_bounded_too(draw: Callable[[np.random.Generator], Any]) -> None:
    canvas = draw(np.random.default_rng(0))
    content = picture_bytes(canvas)
    assert len(content) <= MOST_BYTES
    image = Image.open(io.BytesIO(content))
    assert max(image.size) <= SHOWN_SIDE
    if max(canvas.shape) <= 64:
        assert np.array_equal(np.asarray(image), canvas)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}"], "nothing to report on"),
        (["{tmp}/nowhere"], "nothing to report on"),
        (["{dataset}", "--out", "{tmp}/report.pdf"], "expected the name of an .html file"),
        (["{dataset}", "--out", "{tmp}"], "expected the name of an .html file"),
        (["{dataset}", "--baseline", "ce", "--out", "{tmp}/a.html"], "a dataset has no students"),
    ],
)
def test_mistakes(dataset: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    app = typer.Typer()
    app.command()(report_command)
    result = CliRunner().invoke(app, [argument.format(tmp=tmp_path, dataset=dataset) for argument in arguments])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert not list(tmp_path.iterdir())
