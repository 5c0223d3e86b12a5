"""The `dad` command: a shell whose subcommands are entry points, so that the base never imports upward."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import typer
from rich.console import Console

from dad_datasets.errors import UserError
from dad_datasets.terminal_text import printable

COMMANDS = "dad.commands"
DISTRIBUTION = "discrete-adversarial-distillation"

EXIT_USER_ERROR = 2


def build_app() -> typer.Typer:
    """The application with every installed subcommand; command modules import what is heavy in their bodies."""
    app = typer.Typer(
        name="dad",
        help="Discrete adversarial distillation: make adversarial shards once, distil any number of students.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(lambda: None)  # keeps subcommands named even when one alone is installed
    for entry in sorted(entry_points(group=COMMANDS), key=lambda entry: entry.name):
        app.command(entry.name)(entry.load())
    return app


def main() -> None:
    """Run `dad`: a user's mistake is one line on standard error and exit status 2."""
    try:
        build_app()()
    except UserError as error:
        _complain(str(error))
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:  # what the checks before could not foresee: a folder where a file should be, a full disk
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        sys.exit(EXIT_USER_ERROR)
    except ModuleNotFoundError as error:
        extra = _extra_needing(error.name or "")
        if extra is None:
            raise
        _complain(f"{error.name} is not installed; this command needs: pip install '{DISTRIBUTION}[{extra}]'")
        sys.exit(EXIT_USER_ERROR)


def _complain(message: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print("[bold red]error:[/]", end=" ")
    print(printable(message), file=sys.stderr)


def _extra_needing(module: str) -> str | None:
    """The extra that brings `module`; the subcommand on the command line decides where both would."""
    missing = module.partition(".")[0]
    if missing.startswith("dad_"):
        return None  # a broken installation, not a missing extra
    command = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    halves = {entry.value.partition(".")[0] for entry in entry_points(group=COMMANDS, name=command)}
    if missing in {"ray", "open_clip", "taming", "einops"} or "dad_pipeline" in halves:
        return "pipeline"
    if "dad_trainer" in halves or missing in {"torch", "torchvision", "timm", "safetensors"}:
        return "trainer"
    return None
