"""A worker that cannot be built: one sentence, whoever runs it, and no traceback."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from tiny_run import RawRecipe, run_recipe

from dad_datasets.errors import UserError
from dad_datasets.layout import LEASE
from dad_datasets.sources import WorkUnit
from dad_datasets.store_errors import StoreError
from dad_pipeline.models import Models
from dad_pipeline.runners import retry_queue
from dad_pipeline.runners.inline_runner import InlineRunner
from dad_pipeline.runners.process_runner import ProcessRunner
from dad_pipeline.runners.runner import Event, Runner
from dad_pipeline.worker import WorkerSettings


class Changed:
    """A runner whose workers are told something else."""

    def __init__(self, runner: Runner, **changes: object) -> None:
        self._runner, self._changes = runner, changes

    def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
        yield from self._runner.run(units, replace(settings, **self._changes))  # type: ignore[arg-type]


def test_other_libraries_than_the_drivers_are_refused(recipe: RawRecipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^timm .* is installed here, 0\.1 where the run was planned"):
        run_recipe(recipe, tmp_path, lambda models: Changed(InlineRunner(models), libraries={"timm": "0.1"}))


def test_an_output_directory_that_is_not_the_drivers_is_refused(recipe: RawRecipe, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(UserError, match=r"/elsewhere is not the output directory of the run"):
        run_recipe(recipe, tmp_path / "out", lambda models: Changed(InlineRunner(models), out=str(elsewhere)))
    elsewhere.mkdir()
    (elsewhere / LEASE).write_text("another run's")
    with pytest.raises(UserError, match=r"/elsewhere is not the output directory of the run"):
        run_recipe(recipe, tmp_path / "out", lambda models: Changed(InlineRunner(models), out=str(elsewhere)))


def test_a_store_that_fails_meanwhile_is_one_sentence(recipe: RawRecipe, tmp_path: Path) -> None:
    def make_runner(models: Models) -> Runner:
        failing = mock.patch("dad_pipeline.worker.open_source", side_effect=StoreError("s3://b: the store failed"))
        failing.start()
        return InlineRunner(models)

    try:
        with pytest.raises(UserError, match=r"^this process can make nothing more \(StoreError: s3://b: the"):
            run_recipe(recipe, tmp_path, make_runner)
    finally:
        mock.patch.stopall()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_worker_processes_tell_it_without_a_traceback(
    recipe: RawRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(retry_queue, "MAX_DEATHS_IN_A_ROW", 1)

    class Unreadable(ProcessRunner):
        """The source's folder cannot be listed once the workers look at it."""

        def run(self, units: Iterator[WorkUnit], settings: WorkerSettings) -> Generator[Event, None, None]:
            with mock.patch.dict("os.environ", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}):
                source = settings.recipe.source.model_copy(update={"path": "s3://bucket/photos"})
                recipe = settings.recipe.model_copy(update={"source": source})
                yield from super().run(units, replace(settings, recipe=recipe))

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(UserError, match=r"2 workers in a row ended .*its worker died \(StoreError: source s3://bucket"):
        run_recipe(recipe, tmp_path, lambda _: Unreadable(1))
    assert "Traceback" not in capfd.readouterr().err
