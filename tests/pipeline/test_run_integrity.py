"""A dataset is of one run: nothing that changes results gets into a folder that was begun with something else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tiny_run import RawRecipe, dataset_bytes, run_recipe, write_images

from dad_datasets.errors import UserError
from dad_datasets.folder import open_folder
from dad_datasets.manifest import flatten, read_manifest
from dad_datasets.preparing import prepare_shards
from dad_datasets.sources import SourceSettings, WorkUnit
from dad_datasets.verification import problems
from dad_pipeline.generation_run import TooManyFailuresError
from dad_pipeline.models import Models
from dad_pipeline.replay import replay
from dad_pipeline.runners.inline_runner import InlineRunner
from dad_pipeline.runners.process_runner import ProcessRunner
from dad_pipeline.runners.runner import Event, ViewsDone
from dad_pipeline.teachers import Teacher
from dad_pipeline.worker import WorkerSettings


def test_finished_units_of_another_run_are_not_adopted(recipe: RawRecipe, tmp_path: Path) -> None:
    """Without its manifest a folder still knows whose units it holds."""
    run_recipe(recipe, tmp_path)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "index/tiny-00002.parquet").unlink()
    recipe["attack"]["epsilon"] = 1.0
    with pytest.raises(UserError, match=r"index/tiny-00000\.parquet was made by another run"):
        run_recipe(recipe, tmp_path)


def test_a_lost_manifest_is_written_again(recipe: RawRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path)
    before = dataset_bytes(tmp_path)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "index/tiny-00002.parquet").unlink()
    run_recipe(recipe, tmp_path)
    assert dataset_bytes(tmp_path) == before


def test_a_lost_tar_is_made_again(recipe: RawRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path)
    before = dataset_bytes(tmp_path)
    (tmp_path / "shards/tiny-00002.tar").unlink()
    run_recipe(recipe, tmp_path)
    assert dataset_bytes(tmp_path) == before


def test_a_set_that_lost_a_tar_is_finished_only_when_it_is_there_again(recipe: RawRecipe, tmp_path: Path) -> None:
    """A reader is told so in between; what is written of all units in the end is that of the new one."""
    run_recipe(recipe, tmp_path)
    (tmp_path / "shards/tiny-00002.tar").unlink()
    (tmp_path / "shards.parquet").write_bytes(b"of the shards as they were")

    def make_runner(_: Models) -> _KilledAtOnce:
        return _KilledAtOnce()

    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path, make_runner)
    folder = open_folder(tmp_path)
    assert (read_manifest(folder).state, read_manifest(folder).samples) == ("running", 0)
    run_recipe(recipe, tmp_path)
    assert list(problems(folder, read_manifest(folder))) == []


def test_a_set_that_lost_an_index_is_finished_anew(recipe: RawRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path)
    (tmp_path / "index/tiny-00002.parquet").unlink()
    (tmp_path / "shards.parquet").write_bytes(b"of the shards as they were")
    run_recipe(recipe, tmp_path)
    folder = open_folder(tmp_path)
    assert list(problems(folder, read_manifest(folder))) == []


def test_another_runs_units_without_tar_are_not_adopted(recipe: RawRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "shards/tiny-00002.tar").unlink()
    before = dataset_bytes(tmp_path)
    recipe["attack"]["epsilon"] = 1.0
    with pytest.raises(UserError, match="was made by another run"):
        run_recipe(recipe, tmp_path)
    assert dataset_bytes(tmp_path) == before


def test_a_finished_set_of_codes_alone_misses_no_tar(recipe: RawRecipe, tmp_path: Path) -> None:
    recipe["store"] = {"image": "none"}
    run_recipe(recipe, tmp_path)
    before = dataset_bytes(tmp_path)
    _, screen = run_recipe(recipe, tmp_path)
    assert "3 units are finished already" in screen
    assert dataset_bytes(tmp_path) == before


class _KilledAtOnce:
    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        raise KeyboardInterrupt


class _BeforeTheWorkers:
    """A runner before which something happens to the files."""

    def __init__(self, runner: InlineRunner | ProcessRunner, source: Path, target: Path) -> None:
        self._runner, self._source, self._target = runner, source, target

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        shutil.copy(self._source, self._target)
        yield from self._runner.run(units, settings)


def test_a_source_that_changes_after_planning_is_refused(recipe: RawRecipe, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    recipe["source"]["path"] = str(images)

    def make_runner(models: Models) -> _BeforeTheWorkers:
        return _BeforeTheWorkers(InlineRunner(models), images / "class0/0.png", images / "class0/new.png")

    with pytest.raises(UserError, match="has changed since the run was planned"):
        run_recipe(recipe, tmp_path / "out", make_runner)


def test_weights_that_differ_in_a_worker_are_refused(recipe: RawRecipe, quantizer_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    mine = tmp_path / "quantizer"
    shutil.copytree(quantizer_folder, mine)
    weights = load_file(mine / "quantizer.safetensors")
    save_file({name: value + 1e-3 for name, value in weights.items()}, tmp_path / "other.safetensors")
    recipe["quantizer"]["checkpoint"] = str(mine)

    def make_runner(_: Models) -> _BeforeTheWorkers:
        return _BeforeTheWorkers(ProcessRunner(2), tmp_path / "other.safetensors", mine / "quantizer.safetensors")

    with pytest.raises(UserError, match="quantizer's checkpoint is not the one that the run was planned with"):
        run_recipe(recipe, tmp_path / "out", make_runner)


def test_relabelled_prepared_shards_are_another_source(recipe: RawRecipe, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    prepared = tmp_path / "clean"
    recipe["source"]["path"] = str(prepared)

    def prepare() -> None:
        prepare_shards(SourceSettings(path=str(tmp_path / "tars")), open_folder(prepared), samples_per_shard=10)

    _write_tar(images, tmp_path / "tars", shift=0)
    prepare()
    run_recipe(recipe, tmp_path / "out")
    shutil.rmtree(prepared)
    _write_tar(images, tmp_path / "tars", shift=1)
    prepare()
    with pytest.raises(UserError, match=r"begun with other settings \(source"):
        run_recipe(recipe, tmp_path / "out")


def _write_tar(images: Path, folder: Path, *, shift: int) -> None:
    import webdataset

    folder.mkdir(exist_ok=True)
    with webdataset.TarWriter(str(folder / "a.tar"), mtime=0) as tar:
        for number, path in enumerate(sorted(images.rglob("*.png"))):
            label = (int(path.parent.name[-1]) + shift) % 3
            tar.write({"__key__": f"{number:03d}", "png": path.read_bytes(), "cls": str(label)})


def test_class_names_from_the_source_are_fingerprinted(recipe: RawRecipe, tmp_path: Path) -> None:
    images = write_images(tmp_path / "tiny")
    recipe |= {"source": {"path": str(images)}, "class_names": ["a", "b", "c"]}
    run_recipe(recipe, tmp_path / "out")
    recipe["class_names"] = ["a", "c", "b"]
    with pytest.raises(UserError, match="class_names"):
        run_recipe(recipe, tmp_path / "out")


def test_too_many_failures_are_too_many_on_a_rerun_as_well(recipe: RawRecipe, tmp_path: Path) -> None:
    images = write_images(tmp_path / "tiny")
    (images / "class0/bad.png").write_bytes(b"not an image")
    recipe |= {"source": {"path": str(images)}, "samples_per_shard": 1000}
    for _ in range(2):
        with pytest.raises(TooManyFailuresError):
            run_recipe(recipe, tmp_path / "out")
    assert read_manifest(open_folder(tmp_path / "out")).state == "running"


def test_a_replay_from_a_changed_source_is_refused(recipe: RawRecipe, tmp_path: Path) -> None:
    images = write_images(tmp_path / "tiny")
    recipe["source"]["path"] = str(images)
    run_recipe(recipe, tmp_path / "out")
    Image.new("RGB", (30, 30)).save(images / "class0/0.png")
    key = pq.read_table(tmp_path / "out/index/tiny-00000.parquet")["key"][0].as_py()
    with pytest.raises(UserError, match="it has changed"):
        replay(str(tmp_path / "out"), [("tiny-00000", key)])


def test_a_replay_tells_of_a_view_that_it_cannot_make(recipe: RawRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path)
    (result,) = replay(str(tmp_path), [("tiny-00000", "no-such-view-v0")])
    assert not result.image_equal
    assert result.codes_equal_share == 0


@pytest.mark.parametrize("loss", ["missing", "damaged"])
def test_verify_looks_after_the_quantizer_of_a_codes_only_set(recipe: RawRecipe, tmp_path: Path, loss: str) -> None:
    recipe["store"] = {"image": "none"}
    run_recipe(recipe, tmp_path)
    folder = open_folder(tmp_path)
    assert list(problems(folder, read_manifest(folder))) == []
    path = tmp_path / "quantizer/quantizer.safetensors"
    if loss == "missing":
        path.unlink()
        expected = "the quantizer's file is missing"
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        expected = "sha256 differs"
    assert [problem for problem in problems(folder, read_manifest(folder)) if expected in problem]


def test_more_kept_logits_than_classes_are_refused(recipe: RawRecipe, tmp_path: Path) -> None:
    recipe["store"] = {"logits": {"top_k": 4}}
    with pytest.raises(UserError, match=r"top_k = 4: the teacher has 3 classes"):
        run_recipe(recipe, tmp_path)


def test_an_output_inside_the_source_is_refused(recipe: RawRecipe, tmp_path: Path) -> None:
    images = write_images(tmp_path / "tiny")
    recipe["source"]["path"] = str(images)
    with pytest.raises(UserError, match="is inside the source"):
        run_recipe(recipe, images / "out")
    assert not (images / "out").exists()


def test_running_out_of_device_memory_names_a_batch_size_that_may_fit(
    recipe: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(self: Teacher, pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(Teacher, "forward", too_large)
    with pytest.raises(UserError, match=r"a batch of 8 views does not fit.*--set compute\.batch_size=4"):
        run_recipe(recipe, tmp_path)


def test_a_full_disk_stops_the_run_with_one_sentence(
    recipe: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dad_pipeline.worker.generate_unit", full)
    with pytest.raises(UserError, match="cannot be written any more: No space left on device"):
        run_recipe(recipe, tmp_path)


def test_closing_the_process_runner_lets_units_in_hand_be_published(recipe: RawRecipe, tmp_path: Path) -> None:
    class StopsAtTheFirstBatch:
        def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
            inner = ProcessRunner(1).run(units, settings)
            for event in inner:
                if isinstance(event, ViewsDone):
                    inner.close()
                    raise KeyboardInterrupt
                yield event

    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path, lambda _: StopsAtTheFirstBatch())
    assert list(tmp_path.glob("index/*.parquet"))
    assert not list(tmp_path.rglob(".tmp-*"))


def test_the_manifest_names_everything_that_was_hashed(recipe: RawRecipe, tmp_path: Path) -> None:
    run_recipe(recipe, tmp_path)
    fields = json.loads((tmp_path / "manifest.json").read_text())["fingerprinted"]
    assert fields.keys() == {
        "format_version",
        "recipe",
        "weights",
        "architectures",
        "preprocessing",
        "source",
        "class_names",
        "libraries",
    }
    assert fields["recipe"]["compute"]["threads"] == 1


def test_every_field_of_a_recipe_is_hashed_but_places_and_what_changes_no_result(
    recipe: RawRecipe, tmp_path: Path
) -> None:
    recipe["attack"]["model"] = recipe["teacher"] | {"seed": 1}
    run_recipe(recipe, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    whole, hashed = flatten(manifest["recipe"]), flatten(manifest["fingerprinted"]["recipe"])
    assert hashed.pop("quantizer") == {}, "a section of places alone"
    assert {name: value for name, value in whole.items() if name in hashed} == hashed
    places = {f"{section}.checkpoint" for section in ("teacher", "attack.model", "quantizer")}
    places |= {"source.path", "quantizer.config"}
    free = {"max_failure_rate", "max_retries", "stall_timeout_s"}
    left_out = {name for name in whole.keys() - hashed.keys() if name.split(".")[0] not in ("card", "check")}
    assert left_out == places | free
