"""What benchmarks/robustness.py reports of a stage, on a toy one: a set, two students with two seeds, their teacher."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import robustness
import robustness_results
import timm
import torch
import yaml
from PIL import Image
from rich.console import Console
from robustness import Experiment, Step, run, steps_of
from tiny_run import IMAGES_PER_CLASS, NUM_CLASSES, NUM_IMAGES, run_recipe, tiny_recipe, write_images, write_quantizer
from tiny_training import training_recipe

from dad_datasets.folder import LocalFolder
from dad_datasets.manifest import read_manifest
from dad_datasets.settings import build_settings, load_settings, read_recipe
from dad_pipeline.teachers.resize import resize
from dad_trainer.sweep.run import run_sweep
from dad_trainer.sweep.settings import SweepSettings
from dad_trainer.training.recipe import TrainingRecipe

SIZE = 16
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
REPOSITORY = Path(__file__).parent.parent


def inputs(images: Path) -> torch.Tensor:
    """Read, enlarged and normalised with nothing of the program's but its resize; in the order of the classes."""
    pixels = np.stack([np.asarray(Image.open(path), np.float32) / 255 for path in sorted(images.glob("*/*.png"))])
    large = resize(torch.from_numpy(pixels).permute(0, 3, 1, 2), (32, 32), "bicubic")
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (large - mean) / std


def write_teacher(path: Path, images: Path) -> float:
    """Of random weights, its bias such that it does not say the same of all images; its accuracy on them."""
    torch.manual_seed(1)
    network = timm.create_model("test_resnet", num_classes=NUM_CLASSES).eval()
    with torch.no_grad():
        logits = network(inputs(images))
        network.get_classifier().bias -= logits.mean(0)
    torch.save(network.state_dict(), path)
    answers = (logits - logits.mean(0)).argmax(1)
    assert len(answers.unique()) == NUM_CLASSES
    return float((answers == torch.arange(NUM_IMAGES) // IMAGES_PER_CLASS).float().mean())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose stage `toy` is ready to be reported, and its recipes."""
    folder = tmp_path_factory.mktemp("robustness")
    images, stage, recipes = write_images(folder / "images"), folder / "toy", folder / "recipes"
    for path in images.glob("*/*.png"):
        Image.open(path).resize((SIZE, SIZE)).save(path)
    write_teacher(folder / "teacher.pt", images)
    (folder / "teacher.json").write_text('{"validation accuracy": 0.5}')
    teacher = {"checkpoint": str(folder / "teacher.pt"), "mean": MEAN, "std": STD, "interpolation": "bicubic"}
    generate = tiny_recipe(images, write_quantizer(folder / "quantizer"))
    generate["teacher"] = {"kind": "timm", "architecture": "test_resnet", "image_size": 32, **teacher}
    generate["class_names"] = [f"class{number}" for number in range(NUM_CLASSES)]
    complete, seen = run_recipe(generate, stage / "sets" / "strong")
    assert complete, seen
    (stage / "sets/strong.png").touch()
    clean = {"name": "test", "kind": "clean", "path": str(images)}
    corruptions = {"name": "corruptions", "kind": "corrupted", "corruptions": ["contrast", "fog"], "severities": [5]}
    test = {"benchmarks": [clean, {**corruptions, "path": str(images)}]}
    train = {**training_recipe(stage / "sets/strong"), "epochs": 1}
    sweep = {"train": str(recipes / "train.yaml"), "students": {"kd": {"loss.name": "kd"}, "dad": {}}, "seeds": [0, 1]}
    recipes.mkdir()
    for name, content in {"generate": generate, "test": test, "train": train, "students": sweep}.items():
        # By JSON: tuples are no YAML.
        (recipes / f"{name}.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False))
    settings = build_settings(SweepSettings, sweep, origin="sweep")
    run_sweep(settings, stage / "students", jobs=1, console=Console(file=io.StringIO()))
    (stage / "times.json").write_text('{"students": 12.5}')
    return folder


def test_a_stage_is_reported_with_its_teacher_and_what_made_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness_results, "RESULTS", folder / "results")
    recipes = folder / "recipes"
    names = {"students": "students", "test": "test", "generation": "generate"}
    files = {argument: recipes / f"{name}.yaml" for argument, name in names.items()}
    robustness_results.write_results("Toy", folder / "toy", **files)
    document = json.loads((folder / "results/toy.json").read_text())
    assert (document["title"], document["seeds"], document["seconds"]) == ("Toy", [0, 1], {"students": 12.5})
    expected = write_teacher(folder / "again.pt", folder / "images")
    assert document["teacher"]["test"]["accuracy"] == pytest.approx(expected)
    assert document["sets"].keys() == {"strong"}
    assert 0 < document["sets"]["strong"]["codes changed by the attack"] < 1
    assert document["training"] == read_recipe(recipes / "train.yaml")
    assert document["sweep"] == read_recipe(recipes / "students.yaml")
    assert document["hardware"]["cpu"]
    runs = document["runs"]
    assert runs.keys() == {"kd-seed0", "kd-seed1", "dad-seed0", "dad-seed1"}
    mean = sum(runs[f"dad-seed{seed}"][1]["accuracy"] for seed in (0, 1)) / 2
    assert document["students"]["dad"]["corruptions"]["mean"] == pytest.approx(mean)
    less = mean - sum(runs[f"kd-seed{seed}"][1]["accuracy"] for seed in (0, 1)) / 2
    assert document["less_kd"]["dad"]["corruptions"]["mean"] == pytest.approx(less)
    table = (folder / "results/toy.md").read_text()
    assert "| dad |" in table
    with Image.open(folder / "results/toy.png") as chart:
        assert np.asarray(chart).std() > 1
    # What was computed is kept: a second time nothing is evaluated, and the figures are the same.
    monkeypatch.setattr(robustness_results, "evaluate_student", None)
    robustness_results.write_results("Toy", folder / "toy", **files)
    assert json.loads((folder / "results/toy.json").read_text()) == document


@pytest.mark.parametrize("stage", ["stage_a", "stage_b"])
def test_every_set_of_a_stage_is_made_looked_at_and_then_learnt_from(
    monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.chdir(REPOSITORY)
    experiment = load_settings(Experiment, Path(f"recipes/robustness/{stage}.yaml"))
    steps = steps_of(experiment, Path("cifar10"), jobs=2)
    names = [step.name for step in steps]
    sets = [part for name in experiment.sets for part in (f"set {name}", f"pictures of {name}")]
    for name in experiment.attacked:
        sets.insert(sets.index(f"set {name}"), f"attacked student of {name}")
    assert names == ["split", "shifts", "teacher", "quantizer", *sets, "students"]
    sweep = load_settings(SweepSettings, Path(experiment.students))
    students = [TrainingRecipe.model_validate(raw) for raw in sweep.recipes(read_recipe(Path(sweep.train))).values()]
    read = {shards.path for student in students for shards in student.shards}
    assert read == {str(experiment.folder / "sets" / name) for name in experiment.sets}
    assert sum(step.command[1] == "generate" for step in steps) == len(experiment.sets)


def test_a_plain_student_is_trained_and_attacked_in_the_teachers_place(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORKSPACE", "DATA", "RECIPES", "MODELS"):
        monkeypatch.setattr(robustness, name, tmp_path)
    images = [{"bytes": path.read_bytes(), "path": None} for path in sorted((folder / "images").glob("*/*.png"))]
    labels = [number // IMAGES_PER_CLASS for number in range(NUM_IMAGES)]
    pq.write_table(pa.table({"img": images, "label": labels}), tmp_path / "train.parquet")
    (tmp_path / "quantizer").symlink_to(folder / "quantizer")
    generate = {**read_recipe(folder / "recipes/generate.yaml"), "samples_per_shard": NUM_IMAGES}
    student = {"architecture": "cifar_resnet20", "options": {"norm": "group"}, "mean": MEAN, "std": STD}
    attacked = {**training_recipe(tmp_path / "toy/sets/vqgan"), "student": student, "loss": {"name": "ce"}}
    for name, content in {"generate": generate, "attacked": attacked}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(content))))
    experiment = Experiment(
        name="toy",
        title="Toy",
        quantizer="quantizer.yaml",
        sets={"vqgan": {"attack": {"preset": "vqgan"}}, "dat": {"attack.epsilon": 3.0}},
        attacked={"dat": str(tmp_path / "attacked.yaml")},
        students="students.yaml",
    )
    for step in steps_of(experiment, tmp_path, jobs=1):
        if step.name.endswith((" vqgan", " dat")):
            run(step, tmp_path / "times.json")
    assert list(json.loads((tmp_path / "times.json").read_text())) == [
        *("set vqgan", "pictures of vqgan"),
        *("attacked student of dat", "set dat", "pictures of dat"),
    ]
    model = read_manifest(LocalFolder(tmp_path / "toy/sets/dat")).recipe["attack"]["model"]
    assert model["architecture"] == "cifar_resnet20"
    assert model["checkpoint"] == str(tmp_path / "toy/attacked/dat/last.pt")
    # The teacher is the teacher still: its answers to the clean images are those in the other set.
    answers = ["key", "teacher_clean_top1", "teacher_clean_confidence"]
    plain, dat = (pq.read_table(*(tmp_path / f"toy/sets/{name}/index").iterdir()) for name in ("vqgan", "dat"))
    assert plain.select(answers).equals(dat.select(answers))
    assert not plain["image_sha256"].equals(dat["image_sha256"])


def test_a_step_that_is_done_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done, times = tmp_path / "done", tmp_path / "times.json"
    step = Step(name="touch", command=["touch", str(done)], done=done)
    run(step, times)
    noted = times.read_text()
    assert json.loads(noted)["touch"] >= 0
    run(step, times)
    assert "touch: done already" in capsys.readouterr().out
    assert times.read_text() == noted
    with pytest.raises(SystemExit, match="1"):
        run(Step(name="fails", command=["false"]), times)
