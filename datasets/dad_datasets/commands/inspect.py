"""`dad inspect`: a dataset's figures and a picture grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    dataset: Annotated[str, typer.Argument(help="Folder of a dataset made by dad generate.")],
    pictures: Annotated[int, typer.Option(min=0, help="Views in the picture grid; 0: no grid.")] = 8,
    grid: Annotated[Path | None, typer.Option(help="PNG to write; DATASET/../NAME-pictures.png by default.")] = None,
) -> None:
    """Print a dataset's figures and draw a grid of its pictures."""
    from rich.console import Console

    from dad_datasets.errors import UserError
    from dad_datasets.folder import open_folder
    from dad_datasets.inspection import grid_rows
    from dad_datasets.manifest import read_manifest
    from dad_datasets.picture_grid import draw_grid
    from dad_datasets.plugins import reconstruct_plugin
    from dad_datasets.summary import finished_units, summarise, summary_table

    target = grid or _default_grid(dataset)
    if target.suffix.lower() != ".png" or target.is_dir():
        raise UserError(f"--grid {target}: expected the name of a .png file")
    console = Console()
    folder = open_folder(dataset)
    manifest = read_manifest(folder)
    if manifest.kind != "adversarial":
        raise UserError(f"{dataset} holds {manifest.kind} shards; dad inspect shows what dad generate made")
    units = finished_units(folder)
    state = "finished" if manifest.state == "finished" else "not finished"
    console.print(summary_table(summarise(folder, units), title=f"dataset {dataset} ({state})"))
    if not pictures or not units:
        return
    if manifest.recipe["store"]["image"] == "none":
        console.print("no pictures: this dataset stores codes only")
        return
    try:
        rows = grid_rows(folder, manifest, units, count=pictures, reconstruct=reconstruct_plugin())
    except UserError as error:
        raise UserError(
            f"no pictures: {error} (paths in the recipe start at the directory that dad generate ran in)"
        ) from None
    if not rows:
        console.print("no pictures: no view is stored")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    draw_grid(rows).save(target, "PNG")
    console.print(f"picture grid: {target}", soft_wrap=True, highlight=False, markup=False)


def _default_grid(dataset: str) -> Path:
    """Beside a local dataset, in the current directory for a remote one."""
    if "://" in dataset:
        return Path(f"{dataset.rstrip('/').rsplit('/', 1)[-1]}-pictures.png")
    path = Path(dataset).resolve()
    return path.with_name(f"{path.name}-pictures.png")
