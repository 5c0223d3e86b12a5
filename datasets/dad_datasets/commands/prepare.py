"""`dad prepare`: any clean source turned into clean shards with an index."""

from __future__ import annotations

from typing import Annotated

import typer


def prepare(
    source: Annotated[
        str, typer.Argument(help="Folder of class folders, tars or Parquet files (glob, {000..127}), local or a URL.")
    ],
    out: Annotated[str, typer.Argument(help="Folder to make; run again to resume.")],
    samples_per_shard: Annotated[int, typer.Option(min=1, help="Most samples in one shard.")] = 1000,
    kind: Annotated[
        str, typer.Option(help="Layout: auto, image_folder, webdataset, parquet or prepared (clean shards cut anew).")
    ] = "auto",
    image_column: Annotated[str | None, typer.Option(help="Parquet column of the images.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Parquet column of the labels.")] = None,
) -> None:
    """Turn a clean dataset into shards with an index; image bytes are kept as they are."""
    from rich.console import Console

    from dad_datasets.commands.prepare_screen import progress_line, totals_table
    from dad_datasets.folder import open_folder
    from dad_datasets.output_place import refuse_out_inside_source
    from dad_datasets.preparing import prepare_shards
    from dad_datasets.settings import build_settings
    from dad_datasets.sources import SourceSettings
    from dad_datasets.stop_request import INTERRUPTED

    fields = {"path": source, "kind": kind, "image_column": image_column, "label_column": label_column}
    settings = build_settings(SourceSettings, fields, origin="dad prepare")
    refuse_out_inside_source(source, out)
    console = Console()

    def note(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    folder = open_folder(out)
    try:
        with progress_line(console) as report:
            totals = prepare_shards(settings, folder, samples_per_shard=samples_per_shard, report=report, note=note)
    except KeyboardInterrupt:
        console.print(INTERRUPTED, soft_wrap=True)
        raise
    console.print(totals_table(totals, out))
