"""Reports of training folders, from files written by hand: means, deviations and differences against `statistics`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from html_page import captions, cells, checked_page, read_page, section, text_of
from typer.testing import CliRunner

from dad_datasets.commands.report import report
from dad_datasets.errors import UserError
from dad_datasets.reporting.training_files import read_training_folder
from dad_datasets.reporting.training_page import training_page

STUDENTS, SEEDS = ("ce", "kd<2>", "dad"), (0, 1, 2)
SEVERITIES = (1, 3)


def accuracy(student: str, seed: int, corruption: str | None, severity: int = 1) -> float:
    """Of nothing: different everywhere."""
    base = {None: 0.9, "fog": 0.6, "gaussian_noise": 0.5, "spatter": 0.1}[corruption]
    return base + 0.01 * STUDENTS.index(student) * (seed + 1) - 0.02 * severity + 0.003 * seed


def mean(student: str, seed: int, corruption: str) -> float:
    return statistics.fmean(accuracy(student, seed, corruption, severity) for severity in SEVERITIES)


def evaluated(student: str, seed: int) -> dict[str, Any]:
    """An entry of results.json; `spatter` is an extra corruption, which no mean counts."""
    corruptions = {name: mean(student, seed, name) for name in ("fog", "gaussian_noise", "spatter")}
    counted = statistics.fmean([corruptions["fog"], corruptions["gaussian_noise"]])
    clean = {"benchmark": "clean", "num_images": 100, "accuracy": accuracy(student, seed, None), "ece": 0.05}
    corrupted = {"benchmark": "C & co", "num_images": 50, "accuracy": counted, "ece": 0.1 + 0.01 * seed}
    scores = [{"benchmark": "clean", "corruption": None, "severity": None, "num_images": 100, "top1": 0.5}]
    scores += [
        {
            "benchmark": "C & co",
            "corruption": name,
            "severity": severity,
            "num_images": 50,
            "top1": accuracy(student, seed, name, severity),
            "num_bad": 1,
        }
        for name in corruptions
        for severity in SEVERITIES
    ]
    summaries = [{**clean, "mce": None, "corruptions": {}}, {**corrupted, "mce": 0.8, "corruptions": corruptions}]
    return {"name": f"{student}-seed{seed}", "summaries": summaries, "results": scores}


def write_run(folder: Path, student: str, seed: int, summary: str) -> Path:
    folder.mkdir(parents=True)
    recipe = {
        "shards": [{"path": "runs/<set>"}],
        "student": {"architecture": "cifar_resnet20"},
        "loss": {"name": student},
        "batch_size": 256,
        "seed": seed,
    }
    (folder / "args.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "summary.csv").write_text(summary)
    return folder


HISTORY = "epoch,step,lr,train_loss,train_top1,val_loss,val_top1\n0,10,0.1,2.5,0.25,,\n1,20,0.05,1.25,0.5,1.5,0.625\n"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    out = tmp_path / "sweep"
    for student in STUDENTS:
        for seed in SEEDS:
            write_run(out / f"{student}-seed{seed}", student, seed, HISTORY)
    (out / "evaluation").mkdir()
    students = [evaluated(student, seed) for seed in SEEDS for student in STUDENTS]
    (out / "evaluation" / "results.json").write_text(json.dumps({"students": students}))
    return out


def shown(values: list[float], sign: str = "") -> str:
    middle = f"{100 * statistics.fmean(values):{sign}.1f}".replace("-", "−")
    return f"{middle} ± {100 * statistics.stdev(values):.1f}"


def test_the_table_has_means_deviations_and_paired_differences(sweep: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(report)
    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, [str(sweep), "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    root = read_page(out)
    (table,) = section(root, "Corruptions: C & co").iter("table")
    headings, *rows = cells(table)
    assert headings == ["corruption", *STUDENTS, "kd<2> − ce", "dad − ce"]
    assert [row[0] for row in rows] == ["fog", "gaussian noise", "spatter", "mean of 2"]
    for row, name in zip(rows, ("fog", "gaussian_noise", "spatter"), strict=False):
        for column, student in enumerate(STUDENTS, start=1):
            assert row[column] == shown([mean(student, seed, name) for seed in SEEDS])
        for column, student in enumerate(STUDENTS[1:], start=4):
            assert row[column] == shown([mean(student, s, name) - mean("ce", s, name) for s in SEEDS], "+")
    overview, differences = section(root, "Accuracy and calibration").iter("table")
    assert cells(overview)[0] == [
        "student",
        "seeds",
        "clean",
        "clean, calibration error ↓",
        "C & co, mean",
        "C & co, mCE ↓",
        "C & co, calibration error ↓",
    ]
    assert cells(overview)[1][1:4] == ["3", shown([accuracy("ce", s, None) for s in SEEDS]), "5.0 ± 0.0"]
    assert [row[0] for row in cells(differences)] == ["student", "kd<2>", "dad"]
    assert f"{len(STUDENTS) * len(SEEDS) * 6} images could not be read" in text_of(root)
    assert captions(root) == [
        "Accuracy on each corruption",
        "Accuracy by severity",
        "Training loss",
        "Training accuracy",
        "Validation loss",
        "Validation accuracy",
        "Learning rate",
    ]


def test_extra_corruptions_are_not_counted_by_severity(sweep: Path) -> None:
    folder = read_training_folder(sweep)
    assert folder is not None
    root = checked_page(training_page(folder, name="sweep", baseline=None))
    chart = next(figure for figure in root.iter("figure") if text_of(figure[0]).startswith("Accuracy by severity"))
    drawing = next(svg for svg in chart.iter("svg") if svg.get("role") == "img")
    worst = [accuracy("ce", seed, name, 3) for seed in SEEDS for name in ("fog", "gaussian_noise")]
    assert f"ce ends at {100 * statistics.fmean(worst):.6g};" in drawing.get("aria-label", "")


def test_the_baseline_may_be_another_student(sweep: Path) -> None:
    folder = read_training_folder(sweep)
    assert folder is not None
    root = checked_page(training_page(folder, name="sweep", baseline="dad"))
    (table,) = section(root, "Corruptions: C & co").iter("table")
    assert cells(table)[0][4:] == ["ce − dad", "kd<2> − dad"]
    with pytest.raises(UserError, match="--baseline none: expected one of ce, kd<2>, dad"):
        training_page(folder, name="sweep", baseline="none")


def test_curves_are_drawn_through_the_points(sweep: Path) -> None:
    folder = read_training_folder(sweep)
    assert folder is not None
    root = checked_page(training_page(folder, name="sweep", baseline=None))
    loss = next(figure for figure in root.iter("figure") if text_of(figure[0]).startswith("Training loss"))
    lines = [line for line in loss.iter("polyline") if line.get("class", "").startswith("line")]
    assert len(lines) == len(STUDENTS) * len(SEEDS)
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in str(lines[0].get("points")).split())
    assert x1 - x0 == pytest.approx(x0 - 44, abs=0.1)  # steps 10 and 20, the axis begins at 0
    assert y1 > y0  # the loss falls, and y points down
    drawing = next(svg for svg in loss.iter("svg") if svg.get("role") == "img")
    assert "ce ends at 1.25" in drawing.get("aria-label", "")
    validation = next(figure for figure in root.iter("figure") if text_of(figure[0]).startswith("Validation loss"))
    assert len([each for each in validation.iter("circle") if each.get("class", "").startswith("mark")]) == 9


def test_what_the_recipes_differ_in(sweep: Path) -> None:
    folder = read_training_folder(sweep)
    assert folder is not None
    what = section(checked_page(training_page(folder, name="sweep", baseline=None)), "What it is")
    assert cells(next(what.iter("table"))) == [["field", *STUDENTS], ["loss.name", *STUDENTS]]


def test_runs_that_came_to_nothing_are_named(sweep: Path) -> None:
    write_run(sweep / "late-seed0", "late", 0, "epoch,step,lr,train_loss,train_top1\n")
    (sweep / "late-seed0" / "summary.csv").unlink()
    folder = read_training_folder(sweep)
    assert folder is not None
    runs = section(checked_page(training_page(folder, name="sweep", baseline=None)), "Runs")
    assert "Runs without a finished epoch: late-seed0." in text_of(runs)
    assert "Runs without an evaluation: late-seed0." in text_of(runs)
    assert cells(next(runs.iter("table")))[-1] == ["late-seed0", "–", "–", "–", "–"]


def test_one_run(tmp_path: Path) -> None:
    folder = read_training_folder(write_run(tmp_path / "run", "kd", 7, HISTORY))
    assert folder is not None
    root = checked_page(training_page(folder, name="run", baseline=None))
    text = text_of(root)
    assert "A student cifar_resnet20, trained with the loss kd." in text
    assert "62.5%" in text
    assert "runs/<set>" in text


def test_one_run_that_was_evaluated_in_its_own_folder(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", "kd", 7, HISTORY)
    (path / "results.json").write_text(json.dumps({"students": [{**evaluated("ce", 0), "name": "last"}]}))
    folder = read_training_folder(path)
    assert folder is not None
    root = checked_page(training_page(folder, name="run", baseline=None))
    titles = [text_of(each[0]) for each in root.iter("section")]
    assert titles == ["What it is", "Accuracy and calibration", "Corruptions: C & co", "Learning curves", "Runs"]
    assert "without an evaluation" not in text_of(root)


def test_one_run_without_an_epoch(tmp_path: Path) -> None:
    folder = read_training_folder(write_run(tmp_path / "run", "kd", 7, "epoch,step\n"))
    assert folder is not None
    root = checked_page(training_page(folder, name="run", baseline=None))
    assert "No epoch is finished yet." in text_of(root)


def test_one_checkpoint_evaluated_once(tmp_path: Path) -> None:
    entry = {**evaluated("ce", 0), "name": "checkpoint"}
    (tmp_path / "results.json").write_text(json.dumps({"students": [entry]}))
    folder = read_training_folder(tmp_path)
    assert folder is not None
    root = checked_page(training_page(folder, name="evaluation", baseline=None))
    (table,) = section(root, "Accuracy and calibration").iter("table")
    assert cells(table)[1][:3] == ["checkpoint", "1", f"{100 * accuracy('ce', 0, None):.1f}"]


def test_missing_seeds_leave_gaps(tmp_path: Path) -> None:
    students = [evaluated("ce", 0), evaluated("dad", 1)]
    (tmp_path / "results.json").write_text(json.dumps({"students": students}))
    folder = read_training_folder(tmp_path)
    assert folder is not None
    root = checked_page(training_page(folder, name="evaluation", baseline=None))
    (table,) = section(root, "Corruptions: C & co").iter("table")
    assert cells(table)[1][-1] == "–"


def test_a_long_run_is_thinned_out(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n + 1},0.1,{1 / (n + 1)},0.5\n" for n in range(5000))
    folder = read_training_folder(write_run(tmp_path / "run", "kd", 7, "epoch,step,lr,train_loss,train_top1\n" + rows))
    assert folder is not None
    content = training_page(folder, name="run", baseline=None)
    assert len(content) < 100_000
    assert "ends at 0.0002" in content.decode()


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    assert read_training_folder(tmp_path) is None
    assert read_training_folder(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("args.yaml", "seed: [1]", "seed = "),
        ("args.yaml", "{", "args.yaml"),
        ("summary.csv", "epoch,step\n0,many\n", "holds what is no number"),
        ("summary.csv", "epoch\n0\n", "lacks the column step"),
        ("summary.csv", "epoch,step\n0,1,2,3\n", "holds what is no number"),
        ("summary.csv", b"\xff\xfe", "is not UTF-8"),
        ("results.json", "{}", "is not what dad evaluate writes"),
        ("results.json", "[", "is not what dad evaluate writes"),
        ("results.json", '{"students": [{"name": "a", "summaries": [{}]}]}', "is not what dad evaluate writes"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, file: str, content: str | bytes, message: str) -> None:
    folder = write_run(tmp_path / "run", "kd", 7, HISTORY)
    (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message):
        read_training_folder(folder)
