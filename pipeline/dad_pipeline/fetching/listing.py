"""What `dad fetch --list` shows."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from dad_datasets.errors import UserError
from dad_pipeline.fetching.catalogue import catalogue_names, find_weights
from dad_pipeline.fetching.published import PublishedFile, PublishedWeights
from dad_pipeline.fetching.recipe_lines import recipe_lines


def show_list(console: Console, part: str, folder: Path) -> None:
    """A table of the names that contain `part`; of a single one everything. UserError where there is none."""
    names = [name for name in catalogue_names() if part in name]
    if not names:
        raise UserError(f"{part}: no name contains this; dad fetch --list shows all")
    if part in names or len(names) == 1:
        one = find_weights(part if part in names else names[0])
        console.print("\n".join(details(one, folder)), markup=False, soft_wrap=True)
        return
    console.print(overview([find_weights(name) for name in names], folder))
    console.print(
        f"\ndad fetch NAME brings one to {folder}/; dad fetch --list NAME shows its addresses and the recipe's lines",
        markup=False,
        soft_wrap=True,
    )


def overview(weights: list[PublishedWeights], folder: Path) -> Table:
    """A row for each name."""
    table = Table(box=None, pad_edge=False)
    for column in ("name", "what it is", "bytes", "licence", "goes to"):
        table.add_column(column, overflow="fold", justify="right" if column == "bytes" else "left")
    for one in weights:
        num_bytes = " + ".join(_bytes_known(file) for file in one.files if file.num_bytes or file is one.files[0])
        paths = [str(file.path(folder)) for file in one.files]
        table.add_row(one.name, one.what, num_bytes, one.licence, ", ".join(paths[:1] + [".yaml"] * (len(paths) - 1)))
    return table


def details(weights: PublishedWeights, folder: Path) -> list[str]:
    """Lines about one name: its files, what is known of them, and how a recipe uses them."""
    lines = [weights.name, f"  {weights.what}", f"  licence: {weights.licence}", f"  see {weights.page}"]
    for file in weights.files:
        lines += ["", f"  {file.path(folder)}", f"    bytes: {_bytes_known(file)}; sha256: {file.sha256 or 'unknown'}"]
        lines += [f"    from {address}" for address in file.addresses]
    paths = {file.role: file.path(folder) for file in weights.files}
    return [*lines, "", "in the recipe:", *recipe_lines(weights, paths).splitlines()]


def _bytes_known(file: PublishedFile) -> str:
    return "unknown" if file.num_bytes is None else f"{file.num_bytes:,}"
