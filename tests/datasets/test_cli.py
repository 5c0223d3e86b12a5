"""The `dad` command: what is listed, and how mistakes are told."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner

from dad_datasets import cli
from dad_datasets.errors import UserError

DAD = Path(sys.executable).with_name("dad")
"""The installed command."""


def run_main(monkeypatch: pytest.MonkeyPatch, error: Exception, *arguments: str) -> int:
    """The exit status of `dad ARGUMENTS` whose subcommand raises `error`."""

    def command() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["dad", *arguments])
    entries = EntryPoints(
        [
            EntryPoint("generate", "dad_pipeline.commands.generate:generate", cli.COMMANDS),
            EntryPoint("train", "dad_trainer.commands.train:train", cli.COMMANDS),
            EntryPoint("inspect", "dad_datasets.commands.inspect:inspect", cli.COMMANDS),
        ]
    )
    with (
        mock.patch.object(EntryPoint, "load", return_value=command),
        mock.patch.object(cli, "entry_points", entries.select),
        pytest.raises(SystemExit) as exit_,
    ):
        cli.main()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def test_help_lists_the_commands() -> None:
    result = CliRunner().invoke(cli.build_app(), ["--help"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    for command in ("prepare", "generate", "inspect", "verify", "train-quantizer"):
        assert f" {command} " in result.output


def test_a_mistake_is_one_line_and_status_2(tmp_path: Path) -> None:
    missing = tmp_path / "a folder with a long name that no terminal would show in one line of eighty characters"
    done = subprocess.run([str(DAD), "inspect", str(missing)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"error: {missing} is not a dataset: it has no manifest.json\n"


def test_brackets_in_a_message_are_no_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, UserError("scale = [/bold]: [red]"), "inspect") == cli.EXIT_USER_ERROR
    assert capsys.readouterr().err == "error: scale = [/bold]: [red]\n"


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("ray", "generate", "pipeline"),
        ("torch", "generate", "pipeline"),
        ("torch.nn", "train", "trainer"),
        ("taming", "inspect", "pipeline"),
        ("timm", "inspect", "trainer"),
    ],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str, command: str, extra: str
) -> None:
    error = ModuleNotFoundError(f"No module named {module!r}", name=module)
    assert run_main(monkeypatch, error, command) == cli.EXIT_USER_ERROR
    assert capsys.readouterr().err == (
        f"error: {module} is not installed; this command needs: "
        f"pip install 'discrete-adversarial-distillation[{extra}]'\n"
    )


@pytest.mark.parametrize("module", ["dad_pipeline.gone", "xyz"])
def test_a_broken_installation_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        run_main(monkeypatch, ModuleNotFoundError(name=module), "inspect")


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        run_main(monkeypatch, ZeroDivisionError(), "inspect")
