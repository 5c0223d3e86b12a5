"""Runs of `dad prepare`: interrupted, gone on with, refused, and what they show."""

from __future__ import annotations

import io
import os
import re
import shutil
from pathlib import Path

import pytest
import typer
from prepared_photos import files_of, open_at, picture, run, write_photos
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from dad_datasets.commands.prepare import prepare
from dad_datasets.commands.prepare_screen import progress_line
from dad_datasets.errors import UserError
from dad_datasets.folder import LocalFolder, open_folder
from dad_datasets.layout import INDEX, SHARDS
from dad_datasets.lease import Lease
from dad_datasets.manifest import read_manifest
from dad_datasets.preparing import PreparationProgress, prepare_shards
from dad_datasets.sources import SourceSettings


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


def test_an_interrupted_run_goes_on(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole")
    folder = LocalFolder(tmp_path / "out")

    def stop(progress: PreparationProgress) -> None:
        if progress.done >= 5:
            raise KeyboardInterrupt

    source = SourceSettings(path=str(photos))
    with pytest.raises(KeyboardInterrupt):
        prepare_shards(source, folder, samples_per_shard=5, report=stop)
    with pytest.raises(UserError, match="did not finish"):
        open_at(tmp_path / "out")
    (tmp_path / "out" / SHARDS / ".tmp-123-x.tar").touch()  # what a killed writer leaves
    first = tmp_path / "out" / SHARDS / "photos-00000.tar"
    os.utime(first, ns=(1, 1))
    reports: list[PreparationProgress] = []
    prepare_shards(source, folder, samples_per_shard=5, report=reports.append)
    assert first.stat().st_mtime_ns == 1  # not written anew
    assert [(report.done, report.failed) for report in reports][-1] == (12, 2)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_another_run_in_the_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    with pytest.raises(UserError, match="samples_per_shard: 5 there, 6 now"):
        run(photos, tmp_path / "out", 6)
    (photos / "bee" / "new.png").write_bytes(picture(9, "PNG"))
    with pytest.raises(UserError, match=r"source\.identity"):
        run(photos, tmp_path / "out")


def test_an_index_of_another_run_is_refused(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", 6)
    (tmp_path / "out" / "manifest.json").unlink()
    with pytest.raises(UserError, match="is of another run"):
        run(photos, tmp_path / "out", 5)


def test_an_index_of_another_run_is_refused_though_its_tar_is_gone(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", 6)
    (tmp_path / "out" / "manifest.json").unlink()
    shutil.rmtree(tmp_path / "out" / SHARDS)
    with pytest.raises(UserError, match="is of another run"):
        run(photos, tmp_path / "out", 5)
    assert len(list((tmp_path / "out" / INDEX).iterdir())) == 2


def test_two_runs_at_once_are_refused(photos: Path, tmp_path: Path) -> None:
    with Lease(tmp_path / "out"), pytest.raises(UserError, match="is being written by another run"):
        run(photos, tmp_path / "out")


def test_out_must_be_writable(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        run(photos, tmp_path / "file" / "out")


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(prepare)
    return app


def test_command_ends_with_a_table(photos: Path, tmp_path: Path, command: typer.Typer) -> None:
    arguments = [str(photos), str(tmp_path / "out"), "--samples-per-shard", "5"]
    for _ in range(2):
        result = CliRunner().invoke(command, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
        assert result.exit_code == 0
        assert re.search(r"│ images +│ 10 ", result.output), result.output
        assert "unknown image type" in result.output


def test_an_interrupted_command_says_how_to_go_on(
    photos: Path, tmp_path: Path, command: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dad_datasets.preparing.prepare_shards", interrupted)
    result = CliRunner().invoke(command, [str(photos), str(tmp_path / "out")], env={"COLUMNS": "200"})
    assert result.exit_code == 130
    assert "interrupted: what is finished is kept; run the same command again to go on from there" in result.output


def test_a_lost_tar_is_written_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / SHARDS / "photos-00001.tar").unlink()
    notes: list[str] = []
    states: list[str] = []
    settings = SourceSettings(path=str(photos))

    def report(progress: PreparationProgress) -> None:
        states.append(f"{read_manifest(LocalFolder(out)).state} {progress.done}")

    prepare_shards(settings, LocalFolder(out), samples_per_shard=5, report=report, note=notes.append)
    assert notes == [f"{out}/shards/photos-00001.tar is gone: its unit is made again"]
    assert states == ["running 7", "running 12"]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_terminal_shows_how_far_it_is() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    with progress_line(terminal) as report:
        report(PreparationProgress(done=5, total=12, failed=1))
    assert isinstance(terminal.file, io.StringIO)
    shown = Text.from_ansi(terminal.file.getvalue()).plain
    assert "preparing" in shown
    assert "5/12 images" in shown
    assert "1 failed" in shown


def test_a_mistake_stands_alone(tmp_path: Path) -> None:
    """No bar of work that never began is left above the sentence."""
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    typo = SourceSettings(path=str(tmp_path / "typo"))
    with pytest.raises(UserError, match="no such file"), progress_line(terminal) as report:
        prepare_shards(typo, open_folder(tmp_path / "out"), samples_per_shard=5, report=report)
    assert isinstance(terminal.file, io.StringIO)
    assert terminal.file.getvalue() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{photos}", "{photos}/out"], "is inside the source"),
        (["{photos}", "out", "--kind", "zip"], "kind = 'zip': should be 'auto', 'image_folder'"),
        (["{photos}", "out", "--label-column", "x"], "label_column is for Parquet"),
    ],
)
def test_command_refuses(photos: Path, command: typer.Typer, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(command, [argument.format(photos=photos) for argument in arguments])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
