"""`dad report`: a dataset, a training run or a sweep as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[
        str, typer.Argument(help="A dataset, or what dad train, dad sweep or dad evaluate left.", metavar="DIR")
    ],
    out: Annotated[Path | None, typer.Option(help="HTML file; DIR/../NAME-report.html by default.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Student that the others are compared with; the first by default.")
    ] = None,
) -> None:
    """Write figures, pictures and charts as one HTML page that needs nothing else."""
    from rich.console import Console

    from dad_datasets.errors import UserError
    from dad_datasets.folder import LocalFolder, open_folder
    from dad_datasets.reporting.opening import report_page
    from dad_datasets.reporting.quantities import size

    target = out or _default_target(folder)
    if target.suffix.lower() not in (".html", ".htm") or target.is_dir():
        raise UserError(f"--out {target}: expected the name of an .html file")
    page = report_page(open_folder(folder), name=_name(folder), baseline=baseline)
    with LocalFolder(target.parent).publish(target.name) as stream:
        stream.write(page)
    Console().print(f"report: {target} ({size(len(page))})", soft_wrap=True, highlight=False, markup=False)


def _default_target(folder: str) -> Path:
    """Beside a local folder, in the current directory for a remote one."""
    file = f"{_name(folder)}-report.html"
    return Path(file) if "://" in folder else Path(folder).resolve().with_name(file)


def _name(folder: str) -> str:
    """The folder's own name, which is also the page's title."""
    return folder.rstrip("/").rsplit("/", 1)[-1] if "://" in folder else Path(folder).resolve().name
