"""What benchmarks/robustness.py reports of a stage, on a toy one: a set, two students with two seeds, their teacher."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import robustness
import robustness_results
import robustness_runs
import timm
import torch
import yaml
from PIL import Image
from rich.console import Console
from robustness import Experiment, Step, conduct, image_steps, model_steps, run
from robustness_runs import KeptRun, Part, keep_runs, kept_runs, remaining_sweeps, require_same_sets
from tiny_run import IMAGES_PER_CLASS, NUM_CLASSES, NUM_IMAGES, run_recipe, tiny_recipe, write_images, write_quantizer
from tiny_training import training_recipe

from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder
from dad_datasets.manifest import read_manifest
from dad_datasets.settings import load_settings, read_recipe
from dad_pipeline.teachers.resize import resize
from dad_trainer.sweep.run import recipes_of
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
    (stage / "sets/strong.png").write_bytes(b"what the attack does")
    clean = {"name": "test", "kind": "clean", "path": str(images)}
    corruptions = {"name": "corruptions", "kind": "corrupted", "corruptions": ["contrast", "fog"], "severities": [5]}
    test = {"benchmarks": [clean, {**corruptions, "path": str(images)}]}
    train = {**training_recipe(stage / "sets/strong"), "epochs": 1}
    students = {"kd": {"loss.name": "kd"}, "dad": {}}
    sweep = {"train": str(recipes / "train.yaml"), "students": students, "seeds": [0, 1]}
    sweep["evaluate"] = str(recipes / "validation.yaml")
    recipes.mkdir()
    contents = {"generate": generate, "validation": test, "test": test, "train": train, "students": sweep}
    for name, content in contents.items():
        # By JSON: tuples are no YAML.
        (recipes / f"{name}.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False))
    for done in ("data/test.parquet", "data/shifts/pictures.png", "quantizer/summary.json"):
        (folder / done).parent.mkdir(parents=True, exist_ok=True)
        (folder / done).touch()
    return folder


@pytest.fixture
def experiment(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """The stage `toy`, in a copy of the workspace; its sets and models are there, its students are not."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    for path in (tmp_path / "recipes").glob("*.yaml"):
        path.write_text(path.read_text().replace(str(folder), str(tmp_path)))
    places = {"WORKSPACE": "", "DATA": "data", "MODELS": "", "RECIPES": "recipes", "RESULTS": "results"}
    for name, place in places.items():
        monkeypatch.setattr(robustness, name, tmp_path / place)
    recipes = tmp_path / "recipes"
    return Experiment(
        name="toy",
        title="Toy",
        quantizer="quantizer.yaml",
        sets={"strong": {}},
        students=str(recipes / "students.yaml"),
        test=str(recipes / "test.yaml"),
    )


def trained(tmp_path: Path) -> set[str]:
    return {path.parent.name for path in tmp_path.glob("toy/students/*/last.pt")}


def test_a_stage_is_worked_off_in_pieces_and_reported_with_its_teacher_and_what_made_it(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, recipes = tmp_path / "results", tmp_path / "recipes"
    with pytest.raises(UserError, match="no student of toy is trained here"):
        conduct(experiment, tmp_path, "validation", seeds=None, jobs=1, train=False)
    conduct(experiment, tmp_path, "validation", seeds=[0], jobs=1)
    first = json.loads((results / "toy-validation.json").read_text())
    assert (first["part"], first["seeds"], set(first["runs"])) == ("validation", [0], {"kd-seed0", "dad-seed0"})
    assert trained(tmp_path) == {"kd-seed0", "dad-seed0"}
    conduct(experiment, tmp_path, "validation", seeds=None, jobs=1, train=False)
    assert json.loads((results / "toy-validation.json").read_text()) == first
    # Another machine has the kept figures, not the students.
    shutil.rmtree(tmp_path / "toy/students")
    conduct(experiment, tmp_path, "validation", seeds=None, jobs=1)
    assert trained(tmp_path) == {"kd-seed1", "dad-seed1"}
    document = json.loads((results / "toy-validation.json").read_text())
    assert (document["title"], document["seeds"]) == ("Toy", [0, 1])
    assert list(document["seconds"]) == ["students, seeds 0", "students, seeds 1"]
    expected = write_teacher(tmp_path / "again.pt", tmp_path / "images")
    assert document["teacher"]["test"]["accuracy"] == pytest.approx(expected)
    assert document["sets"].keys() == {"strong"}
    assert 0 < document["sets"]["strong"]["codes changed by the attack"] < 1
    assert document["training"] == read_recipe(recipes / "train.yaml")
    assert document["sweep"] == read_recipe(recipes / "students.yaml")
    assert document["hardware"]["cpu"]
    runs = document["runs"]
    assert runs.keys() == {"kd-seed0", "kd-seed1", "dad-seed0", "dad-seed1"}
    assert runs["kd-seed0"] == first["runs"]["kd-seed0"]
    mean = sum(runs[f"dad-seed{seed}"][1]["accuracy"] for seed in (0, 1)) / 2
    assert document["students"]["dad"]["corruptions"]["mean"] == pytest.approx(mean)
    less = mean - sum(runs[f"kd-seed{seed}"][1]["accuracy"] for seed in (0, 1)) / 2
    assert document["less_kd"]["dad"]["corruptions"]["mean"] == pytest.approx(less)
    assert document["less_kd"].keys() == {"dad"}
    assert "less_noise" not in document, "the toy has no such student"
    page = (results / "toy-validation.md").read_text()
    assert f"| teacher |  | {100 * expected:.1f} |" in page
    row = document["students"]["dad"]["corruptions"]
    assert f"| {100 * row['mean']:.1f} ± {100 * row['deviation']:.1f} |" in page
    assert f"| {100 * less:+.1f} ± " in page
    pictures = tmp_path / "toy/sets/strong.png"
    assert (results / "toy-strong.png").read_bytes() == pictures.read_bytes()
    with Image.open(results / "toy-validation.png") as chart:
        assert np.asarray(chart).std() > 1
    # Figures of other weights do not stand beside these; those of the same do.
    path, kept = results / "toy/kd-seed1.json", KeptRun.model_validate_json((results / "toy/kd-seed1.json").read_text())
    sweep = load_settings(SweepSettings, Path(experiment.students))
    for weights, parts in ((kept.weights_sha256, {"validation", "test"}), ("0" * 64, {"test"})):
        path.write_text(kept.model_copy(update={"weights_sha256": weights}).model_dump_json())
        keep_runs(
            path.parent,
            experiment.folder,
            recipes_of(sweep),
            experiment.sets,
            "test",
            recipes / "test.yaml",
            console=Console(),
        )
        assert KeptRun.model_validate_json(path.read_text()).figures.keys() == parts
    path.write_text(kept.model_dump_json())
    # What is there is kept: a third time nothing is trained or evaluated, and the figures are the same.
    monkeypatch.setattr(robustness_results, "evaluate_student", None)
    monkeypatch.setattr(robustness_runs, "evaluate_checkpoints", None)
    shutil.rmtree(tmp_path / "toy/students")
    conduct(experiment, tmp_path, "validation", seeds=None, jobs=1)
    assert json.loads((results / "toy-validation.json").read_text()) == document
    assert trained(tmp_path) == set()


def fake_run(
    student: str, seed: int, recipe: TrainingRecipe, *, fingerprint: str = "0", part: Part = "test"
) -> KeptRun:
    return KeptRun(
        student=student,
        seed=seed,
        recipe=recipe.model_dump(mode="json"),
        shards={shards.path: fingerprint for shards in recipe.shards},
        attacks={"strong": {"attack.preset": "strong"}},
        sets={},
        hardware={},
        versions={},
        weights_sha256="0",
        figures={part: ()},
    )


def keep(folder: Path, run: KeptRun) -> None:
    (folder / f"{run.student}-seed{run.seed}.json").write_text(json.dumps(run.model_dump(mode="json")))


def test_what_lacks_figures_is_what_remains(experiment: Experiment) -> None:
    sweep = load_settings(SweepSettings, Path(experiment.students))
    recipes = recipes_of(sweep)

    def remaining(known: set[tuple[str, int]], part: Part) -> list[tuple[list[str], tuple[int, ...]]]:
        runs = {run: fake_run(*run, recipes[run]) for run in known}
        return [(list(rest.students), rest.seeds) for rest in remaining_sweeps(sweep, runs, part)]

    assert remaining(set(), "test") == [(["kd", "dad"], (0, 1))]
    assert remaining({("kd", 1)}, "test") == [(["kd", "dad"], (0,)), (["dad"], (1,))]
    assert remaining({("kd", 0), ("kd", 1)}, "test") == [(["dad"], (0, 1))]
    assert remaining(set(recipes), "test") == []
    assert remaining(set(recipes), "validation") == [(["kd", "dad"], (0, 1))]


def test_figures_of_other_settings_or_other_sets_are_refused(experiment: Experiment, tmp_path: Path) -> None:
    recipes = recipes_of(load_settings(SweepSettings, Path(experiment.students)))
    attacks = {"strong": {"attack.preset": "strong"}}
    other = recipes["kd", 0].model_copy(update={"batch_size": 6})
    keep(tmp_path, fake_run("kd", 0, other))
    with pytest.raises(UserError, match=r"kd-seed0\.json is of a run with other settings \(batch_size\); remove it"):
        kept_runs(tmp_path, recipes, attacks)
    keep(tmp_path, fake_run("kd", 0, recipes["kd", 0]))
    older = fake_run("dad", 0, recipes["dad", 0])
    del older.recipe["clip_norm"]  # a field that the recipe has got since
    keep(tmp_path, older)
    assert list(kept_runs(tmp_path, recipes, attacks)) == [("kd", 0), ("dad", 0)]
    keep(tmp_path, fake_run("dad", 0, recipes["dad", 0], fingerprint="1"))
    with pytest.raises(UserError, match=r"are of students of different sets, both .*sets/strong"):
        kept_runs(tmp_path, recipes, attacks)
    # The stage now makes that set otherwise, or the student now learns from another one.
    with pytest.raises(UserError, match=r"with other settings \(sets\.strong\.attack\.preset\); remove it"):
        kept_runs(tmp_path, recipes, {"strong": {"attack.preset": "noise"}})
    elsewhere = [recipes["kd", 0].shards[0].model_copy(update={"path": "sets/other"})]
    moved = {("kd", 0): recipes["kd", 0].model_copy(update={"shards": tuple(elsewhere)})}
    with pytest.raises(UserError, match=r"kd-seed0\.json is of a run with other settings \(shards\)"):
        kept_runs(tmp_path, moved, attacks)


def test_a_set_made_anew_that_came_out_otherwise_is_found_before_students_learn_from_it(
    experiment: Experiment, tmp_path: Path
) -> None:
    recipes = recipes_of(load_settings(SweepSettings, Path(experiment.students)))
    run = ("dad", 0)
    own = read_manifest(LocalFolder(Path(recipes[run].shards[0].path))).fingerprint
    require_same_sets({run: fake_run(*run, recipes[run], fingerprint=own)})
    with pytest.raises(UserError, match=r"sets/strong is not the set that dad-seed0 has learnt from"):
        require_same_sets({run: fake_run(*run, recipes[run], fingerprint="of another machine")})


def test_a_seed_that_the_sweep_does_not_have_is_one_sentence(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"students\.yaml has no seed 7, only 0, 1"):
        conduct(experiment, tmp_path, "test", seeds=[7], jobs=1)


@pytest.mark.parametrize("stage", ["stage_a", "stage_b"])
def test_every_set_of_a_stage_is_made_looked_at_and_then_learnt_from(
    monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.chdir(REPOSITORY)
    experiment = load_settings(Experiment, Path(f"recipes/robustness/{stage}.yaml"))
    sweep = load_settings(SweepSettings, Path(experiment.students))
    steps = [*image_steps(Path("cifar10")), *model_steps(experiment, [sweep], jobs=2)]
    names = [step.name for step in steps]
    sets = [part for name in experiment.sets for part in (f"set {name}", f"pictures of {name}")]
    for name in experiment.attacked:
        sets.insert(sets.index(f"set {name}"), f"attacked student of {name}")
    assert names == [
        "split",
        "shifts",
        "teacher",
        "quantizer",
        *sets,
        f"students, seeds {' '.join(map(str, sweep.seeds))}",
    ]
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
    train = json.loads(json.dumps(training_recipe(tmp_path / "toy/sets/dat")))
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(train))
    sweep = SweepSettings(train=str(tmp_path / "train.yaml"), students={"dad": {}})
    for step in model_steps(experiment, [sweep], jobs=1):
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
