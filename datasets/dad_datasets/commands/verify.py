"""`dad verify`: whether a dataset is whole, and whether samples of it can be made again."""

from __future__ import annotations

from typing import Annotated

import typer


def verify(
    dataset: Annotated[str, typer.Argument(help="Folder of a dataset made by dad generate.")],
    replay: Annotated[int, typer.Option(min=0, help="Views to compute again and compare; needs the pipeline.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the choice of these views.")] = 0,
) -> None:
    """Check hashes, counts and indexes; with --replay compute some samples again."""
    from itertools import chain

    from rich.console import Console
    from rich.text import Text

    from dad_datasets.errors import UserError
    from dad_datasets.folder import open_folder
    from dad_datasets.label_verification import label_problems
    from dad_datasets.manifest import read_manifest
    from dad_datasets.plugins import replay_plugin
    from dad_datasets.replay_choice import choose_views
    from dad_datasets.summary import finished_units
    from dad_datasets.terminal_text import printable
    from dad_datasets.verification import problems

    console = Console(highlight=False)
    folder = open_folder(dataset)
    manifest = read_manifest(folder)
    if manifest.kind != "adversarial":
        raise UserError(f"{dataset} holds {manifest.kind} shards; dad verify checks what dad generate made")
    replayer = replay_plugin() if replay else None
    found = 0
    for problem in chain(problems(folder, manifest), label_problems(folder, manifest)):
        found += 1
        console.print(Text.assemble(("wrong: ", "red"), printable(problem)), soft_wrap=True)
    units = finished_units(folder)
    console.print(f"{len(units):,} shards read, dataset {manifest.state}: {found} problems", soft_wrap=True)
    if replayer is not None and not found:
        for result in replayer(dataset, choose_views(folder, units, replay, seed)):
            same = result.image_equal and result.codes_equal_share == 1 and result.logits_max_difference == 0
            found += not same
            console.print(
                f"{printable(result.key)}: {'identical' if same else 'differs'}"
                + ("" if same else f" (codes equal {result.codes_equal_share:.2%}, ")
                + ("" if same else f"logits differ by up to {result.logits_max_difference:.3g})"),
                soft_wrap=True,
                markup=False,
            )
    if found:
        raise typer.Exit(1)
