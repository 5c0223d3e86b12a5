"""Where the clean images are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dad_datasets.settings import Settings

SourceKind = Literal["auto", "image_folder", "webdataset", "parquet", "prepared"]


class SourceSettings(Settings):
    """Labelled clean images: class folders, tars, Parquet files, or what `dad prepare` made of them."""

    path: str = Field(
        min_length=1,
        description="Folder, file, glob or brace range (train-{0000..1023}.tar), as a local path or an fsspec URL.",
    )
    kind: SourceKind = Field(default="auto", description="Layout of the source; `auto` tells it from the files.")
    image_column: str | None = Field(
        default=None, min_length=1, description="Parquet column of the images; by default `image` or `img`."
    )
    label_column: str | None = Field(
        default=None,
        min_length=1,
        description="Parquet column of the labels; by default `label`, `labels` or `fine_label`.",
    )
