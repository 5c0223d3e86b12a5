"""`dad expand`: a set of codes turned into a set of images."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class DeviceOption(StrEnum):
    """Where the decoder runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class FormatOption(StrEnum):
    """How the images are stored: lossless, both."""

    webp = "webp"
    png = "png"


def expand(
    codes: Annotated[str, typer.Argument(help="Folder of a set made with store.image: none.")],
    out: Annotated[str, typer.Option(help="Folder of the set with images; run again to resume.")],
    device: Annotated[DeviceOption, typer.Option(help="auto: a GPU where there is one.")] = DeviceOption.auto,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Views decoded at once; by default as when they were made.")
    ] = None,
    compiled: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="The decoder; by default as when they were made.")
    ] = None,
    quantizer: Annotated[
        Path | None, typer.Option(help="Folder of the quantizer; by default the one that travels with the set.")
    ] = None,
    format_: Annotated[FormatOption, typer.Option("--format", help="Format of the images.")] = FormatOption.webp,
    check: Annotated[int, typer.Option(min=0, help="Views to compare with the decoder in float64.")] = 0,
) -> None:
    """Decode a codes-only set into an ordinary one with images, labels and logits."""
    from rich.console import Console

    from dad_pipeline.expansion.expansion_run import expand_dataset

    expand_dataset(
        codes,
        out,
        console=Console(),
        image_format=format_.value,
        device=device.value,
        batch_size=batch_size,
        compiled=compiled,
        quantizer=quantizer,
        check=check,
    )
