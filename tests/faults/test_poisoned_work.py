"""Work that ends or hangs the process that does it: the sample or the unit is set aside, the rest is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import faulty_worker
import pyarrow.parquet as pq
import pytest
import torch
from faulty_machine import faulty_environment, make_fatal
from tiny_run import NUM_IMAGES, RawRecipe, dataset_bytes, run_recipe, tiny_recipe, write_images, write_quantizer

from dad_datasets.decoding_trial import fatal_images
from dad_datasets.folder import open_folder
from dad_datasets.manifest import read_manifest
from dad_datasets.sources import SourceSettings, open_source
from dad_datasets.sources.sparing_reader import SparingReader
from dad_datasets.verification import problems
from dad_pipeline.device_failure import is_device_failure
from dad_pipeline.replay import replay
from dad_pipeline.runners.process_runner import ProcessRunner
from dad_pipeline.teachers import Teacher

CRASH = "decoding it ends the process (SIGABRT)"


@pytest.fixture(scope="module")
def quantizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_quantizer(tmp_path_factory.mktemp("quantizer"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "tiny")


@pytest.fixture
def recipe(images: Path, quantizer: Path) -> RawRecipe:
    return tiny_recipe(images, quantizer) | {"max_failure_rate": 0.2, "max_retries": 0}


@pytest.fixture
def undisturbed(recipe: RawRecipe, tmp_path: Path) -> dict[str, bytes]:
    assert run_recipe(recipe, tmp_path / "undisturbed")[0]
    return dataset_bytes(tmp_path / "undisturbed")


@pytest.fixture
def faulty_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every Python that is started; the driver, which is this process, has a good decoder."""
    for name, value in faulty_environment().items():
        monkeypatch.setenv(name, value)


def rows(out: Path) -> dict[str, tuple[str, bytes | None]]:
    """Reason and image hash of every view."""
    table = pq.read_table(out / "index", columns=["key", "reason", "image_sha256"]).to_pylist()
    return {row["key"]: (row["reason"], row["image_sha256"]) for row in table}


@pytest.mark.usefixtures("faulty_python")
@pytest.mark.timeout(600)
def test_an_image_that_ends_the_process_becomes_a_row_and_the_rest_is_made(
    recipe: RawRecipe, images: Path, tmp_path: Path
) -> None:
    make_fatal(images / "class1/3.png", "crashes")  # the 12th image: in the second of the three units
    assert run_recipe(recipe, tmp_path / "undisturbed")[0]  # in this process, which outlives it
    complete, screen = run_recipe(recipe, tmp_path / "out", lambda _: ProcessRunner(1))
    assert complete
    assert " ".join(screen.split()).count(f"{CRASH} │ 2 │") == 1
    ours, undisturbed = rows(tmp_path / "out"), rows(tmp_path / "undisturbed")
    failed = {key for key, (reason, _) in ours.items() if reason}
    assert failed == {"class1%2F3%2Epng-v0", "class1%2F3%2Epng-v1"}
    assert all(ours[key] == (CRASH, None) for key in failed)
    assert all(ours[key] == undisturbed[key] for key in ours.keys() - failed)
    folder = open_folder(tmp_path / "out")
    assert list(problems(folder, read_manifest(folder))) == []
    (again,) = replay(str(tmp_path / "out"), [("tiny-00001", "class1%2F4%2Epng-v1")])
    assert (again.image_equal, again.codes_equal_share) == (True, 1.0)


@pytest.mark.usefixtures("faulty_python")
def test_the_child_finds_those_that_crash_or_hang_it(images: Path) -> None:
    make_fatal(images / "class0/1.png", "crashes")
    make_fatal(images / "class0/4.png", "hangs")
    contents = [path.read_bytes() for path in sorted((images / "class0").iterdir())]
    found = fatal_images([*contents, b"no image", b""], max_pixels=10_000, limit_s=20)
    assert found == {1: CRASH, 4: "decoding it takes more than 20 s"}
    assert fatal_images([], max_pixels=1) == {}


@pytest.mark.usefixtures("faulty_python")
def test_a_sparing_reader_changes_nothing_but_the_problem(images: Path) -> None:
    make_fatal(images / "class0/1.png", "crashes")
    (images / "class0/2.png").write_bytes(b"")
    source = open_source(SourceSettings(path=str(images)))
    (unit,) = source.plan(NUM_IMAGES)
    plain, spared = list(source.read(unit)), list(SparingReader(source, max_pixels=10_000).read(unit))
    problems = {sample.source_key: sample.problem for sample in spared if sample.problem}
    assert problems == {"class0/1.png": CRASH, "class0/2.png": "image is empty"}
    assert [replace(sample, problem="") for sample in spared] == [replace(sample, problem="") for sample in plain]


@pytest.mark.slow
@pytest.mark.usefixtures("faulty_python")
@pytest.mark.timeout(600)
def test_a_worker_that_hangs_is_killed_and_the_image_set_aside(recipe: RawRecipe, images: Path, tmp_path: Path) -> None:
    make_fatal(images / "class2/7.png", "hangs")
    recipe |= {"stall_timeout_s": 10, "check": {"samples": 0}}
    complete, screen = run_recipe(recipe, tmp_path / "out", lambda _: ProcessRunner(1))
    assert complete, screen
    assert "decoding it takes more than 5 s" in screen
    assert sum(bool(reason) for reason, _ in rows(tmp_path / "out").values()) == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_device_lost_once_costs_nothing(
    recipe: RawRecipe, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dad_pipeline.runners.process_runner._work", faulty_worker.work)
    for name, value in faulty_worker.plan("device error", "tiny-00001", once=tmp_path / "happened").items():
        monkeypatch.setenv(name, value)
    complete, _ = run_recipe(recipe, tmp_path / "out", lambda _: ProcessRunner(1))
    assert complete
    assert (tmp_path / "happened").exists()
    assert dataset_bytes(tmp_path / "out") == undisturbed


@pytest.mark.timeout(600)
def test_a_unit_that_breaks_the_device_every_time_is_set_aside_and_its_companion_is_not(
    recipe: RawRecipe, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("dad_pipeline.runners.process_runner._work", faulty_worker.work)
        for name, value in faulty_worker.plan("old device error", "tiny-00001").items():
            patched.setenv(name, value)
        complete, screen = run_recipe(recipe, tmp_path / "out", lambda _: ProcessRunner(1))
    assert not complete
    assert "units not made" in screen
    reason = "its worker died (RuntimeError: CUDA error: device-side assert triggered); tried 1 time"
    assert f"unit tiny-00001 was not made: {reason}" in screen
    assert "the same command tries them again" in screen
    assert sorted(path.stem for path in (tmp_path / "out/index").iterdir()) == ["tiny-00000", "tiny-00002"]
    assert not list((tmp_path / "out").rglob(".tmp-*"))
    assert run_recipe(recipe, tmp_path / "out")[0]
    assert dataset_bytes(tmp_path / "out") == undisturbed


def test_a_sample_without_a_finite_result_is_a_row(
    recipe: RawRecipe, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Teacher.forward

    def nan_for_the_first(self: Teacher, pixels: torch.Tensor) -> torch.Tensor:
        logits = forward(self, pixels)
        return torch.cat([logits[:1] * torch.nan, logits[1:]]) if len(pixels) == 8 else logits

    monkeypatch.setattr(Teacher, "forward", nan_for_the_first)
    complete, screen = run_recipe(recipe | {"max_failure_rate": 1.0, "check": {"samples": 0}}, tmp_path / "out")
    assert complete
    assert "non-finite model output" in screen
    reasons = [reason for reason, _ in rows(tmp_path / "out").values()]
    assert reasons.count("non-finite model output") == 5  # one of each whole batch of eight
    assert reasons.count("") == 43


def test_what_counts_as_a_lost_device() -> None:
    assert is_device_failure(torch.AcceleratorError("CUDA error: unspecified launch failure"))
    assert is_device_failure(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling ..."))
    assert is_device_failure(RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"))
    assert not is_device_failure(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_device_failure(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_device_failure(ValueError("CUDA error"))
